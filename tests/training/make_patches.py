"""Small labelled pictures and a small network, so that a training takes a second."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

COLOUR_OF = {"normal": (225, 190, 215), "tumour": (150, 90, 160), "stroma": (235, 150, 170)}


def picture(class_name: str, seed: int, size: int = 32) -> NDArray[np.uint8]:
    """A noisy square in its class's colour; no two seeds give the same."""
    noise = np.random.default_rng([seed, len(class_name)]).normal(0, 25, (size, size, 3))
    return np.clip(np.array(COLOUR_OF[class_name]) + noise, 0, 255).astype(np.uint8)


def png(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    return file.getvalue()


def write_class_folders(
    root: Path, per_class: int = 8, classes: tuple[str, ...] = ("normal", "tumour"), first_seed: int = 0
) -> Path:
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(first_seed, first_seed + per_class):
            (root / name / f"patch{i:03}.png").write_bytes(png(picture(name, i)))
    return root


def write_zip(path: Path, folder: Path, inside: str = "train") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, f"{inside}/{file.relative_to(folder).as_posix()}")
    return path


def write_csv(path: Path, header: str, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(line.split(",") for line in (header, *rows))
    return path


class TinyNetwork(nn.Module):
    """Convolution, normalisation, pooling and a head called fc: all that training relies on."""

    def __init__(self, n_classes: int = 2, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv = nn.Conv2d(3, 8, 5, stride=4)
            self.norm = nn.BatchNorm2d(8)
            self.fc = nn.Linear(8, n_classes)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc(torch.relu(self.norm(self.conv(batch))).mean(dim=(2, 3)))
        return out
