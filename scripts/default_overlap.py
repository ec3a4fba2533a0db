"""Accuracy against cost of the overlap, on a synthetic layout of real tissue.

Patches of PatchCamelyon's reporting half (sha256 of the file begins with a hex digit from 8 on) are laid out
side by side on a slide, in blocks of one label, and the layout is shifted against the grid of the run, as
tissue on a slide is. A patch's label holds at its centre, so the heatmap's probability is read
there and nowhere else. Neighbours are unrelated tissue: the figures compare overlaps with each other,
they do not say how well the model does on slides.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score

from tests.make_slides import write_svs
from wsi_cam import RunSettings, SlideResult, explain_slide, load_classifier

PATCH_PX, MPP_UM, BLOCK = 96, 0.972, 2
#: Model pixels between the grid of the run and that of the layout.
SHIFTS_PX = (16, 48, 80)
OVERLAPS = (0.0, 1 / 3, 2 / 3)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="bundle (default: the bundled model)")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/pcam/valid.zip"))
    parser.add_argument("--side", type=int, default=14, help="patches along each side of the slide")
    args = parser.parse_args()
    classifier = load_classifier(args.model)
    by_label = reporting_half(args.data)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        region = whole_slide(work / "whole.geojson", args.side)
        for overlap in OVERLAPS:
            settings = RunSettings(overlap=overlap, tissue=region, min_tissue=0, top_patches=0, export=())
            aucs, n_patches = [], 0
            for shift_px in SHIFTS_PX:
                slide, truth = lay_out(work / f"layout-{shift_px}.svs", by_label, args.side, shift_px)
                result = explain_slide(slide, work / f"out-{overlap:.2f}", classifier, settings)
                values = at_centres(result, args.side, shift_px)
                aucs.append(float(roc_auc_score(truth.ravel(), values.ravel())))
                n_patches = result.n_patches
            each = ", ".join(f"{auc:.4f}" for auc in aucs)
            print(
                f"overlap {overlap:.2f}: {n_patches:6} patches, AUC at patch centres {np.mean(aucs):.4f} "
                f"(shifts of {SHIFTS_PX} px: {each})",
                flush=True,
            )


def reporting_half(path: Path) -> list[list[NDArray[np.uint8]]]:
    """Pictures of the classes normal and tumour, in the archive's order."""
    by_label: list[list[NDArray[np.uint8]]] = [[], []]
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            content = archive.read(name) if name.endswith(".jpg") else b""
            if content and hashlib.sha256(content).hexdigest()[0] >= "8":
                with Image.open(io.BytesIO(content)) as picture:
                    by_label["/tumour/" in name].append(np.asarray(picture.convert("RGB")))
    return by_label


def lay_out(
    path: Path, by_label: list[list[NDArray[np.uint8]]], side: int, shift_px: int
) -> tuple[Path, NDArray[np.bool_]]:
    """A slide of ``side`` x ``side`` patches in chequered blocks, and whether each is tumour."""
    block = np.arange(side) // BLOCK
    truth = (block[:, None] + block[None]) % 2 == 1
    image = np.full((side * PATCH_PX + shift_px,) * 2 + (3,), 240, np.uint8)
    supply = [iter(pictures) for pictures in by_label]
    for row, column in np.ndindex(side, side):
        y, x = row * PATCH_PX + shift_px, column * PATCH_PX + shift_px
        image[y : y + PATCH_PX, x : x + PATCH_PX] = next(supply[int(truth[row, column])])
    return write_svs(path, image, mpp=MPP_UM, levels=(1,), quality=95, subsampling="444"), truth


def whole_slide(path: Path, side: int) -> Path:
    """A region around everything, so that every patch is looked at."""
    end = (side + 1) * PATCH_PX
    ring = [[0, 0], [end, 0], [end, end], [0, end], [0, 0]]
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    return path


def at_centres(result: SlideResult, side: int, shift_px: int) -> NDArray[np.float32]:
    """Probability of tumour at the centre of each patch of the layout, (side, side)."""
    store = result.probability
    heatmap = store.read(0)[store.channel_index("tumour")]
    level0 = np.arange(side) * PATCH_PX + shift_px + PATCH_PX / 2
    cells = (level0 / store.to_level0.scale_x).astype(int)
    return heatmap[np.ix_(cells, cells)]


if __name__ == "__main__":
    main()
