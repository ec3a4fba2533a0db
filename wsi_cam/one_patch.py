"""One picture, without a slide: what the model says of it and where it looked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_cam.classifiers.bundle import Classifier, load_classifier
from wsi_cam.errors import SettingsError, SlideError
from wsi_cam.export.png import write_png
from wsi_cam.export.triptych import triptych
from wsi_cam.inference import PatchExplainer
from wsi_cam.slide_run.job import evidence_scales


@dataclass(frozen=True, eq=False)
class PatchExplanation:
    """``probabilities`` by class name; ``evidence`` float32 (classes, rows, columns) in logits;
    ``triptych`` uint8 (h, w, 3): patch | grey Grad-CAM | overlay of one class.
    """

    probabilities: dict[str, float]
    evidence: NDArray[np.float32]
    triptych: NDArray[np.uint8]

    def save(self, path: str | Path) -> None:
        """Write the triptych as PNG. Raises OutputError."""
        write_png(Path(path), self.triptych)


def explain_patch(
    image: str | Path | NDArray[np.uint8],
    classifier: Classifier | PatchExplainer | None = None,
    class_name: str | None = None,
    target_layer: str = "layer4",
) -> PatchExplanation:
    """Classify one picture and show where the evidence for a class lies.

    Without a ``classifier`` the bundled one is loaded. For many pictures make a ``PatchExplainer`` with a
    ``batch_size`` of 1 once, which takes a second; ``target_layer`` is then the explainer's.

    ``image`` is a file or uint8 RGB (h, w, 3), square and at the model's spacing; another size than the
    model's is resized to it (antialiased), which changes the spacing. ``class_name`` is the model's target
    class where not given. Raises SlideError for a file that is no picture, SettingsError for one that is not
    square and for an unknown class, ModelError for arrays of another kind.
    """
    if isinstance(classifier, PatchExplainer):
        explainer = classifier
    else:
        explainer = PatchExplainer(classifier or load_classifier(), target_layer, batch_size=1)
    card = explainer.classifier.card
    class_name = class_name or card.target_class
    if class_name not in card.class_names:
        raise SettingsError(f"class {class_name!r}: the model knows {', '.join(card.class_names)}")
    pixels = _read(image) if isinstance(image, (str, Path)) else image
    if pixels.shape[0] != pixels.shape[1]:
        raise SettingsError(
            f"a picture of {pixels.shape[1]} x {pixels.shape[0]} px: patches are square; cut one out"
        )
    if pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3:
        size = (card.patch_size_px, card.patch_size_px)
        if pixels.shape[:2] != size:
            pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
    seen = explainer.explain(pixels[None])
    index = card.class_names.index(class_name)
    picture = triptych(
        pixels,
        seen.evidence[0, index],
        evidence_scales(card)[index],
        class_name=class_name,
        probability=float(seen.probabilities[0, index]),
        cell_px=explainer.cell_px,
    )
    probabilities = dict(zip(card.class_names, map(float, seen.probabilities[0]), strict=True))
    return PatchExplanation(probabilities, seen.evidence[0], picture)


def _read(path: str | Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SlideError(f"{path}: not a picture that can be read ({error}); give a PNG or JPEG") from error
