"""wsi_cam: a slide is read in patches, a classifier looks at each patch once, and what it saw is laid
back onto the slide.

The public names load on first use, so that ``import wsi_cam`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsi_cam.batch import plan_batch, run_batch
    from wsi_cam.classifiers.bundle import Classifier, load_classifier
    from wsi_cam.heatmap.store import HeatmapStore, open_heatmap
    from wsi_cam.inference import PatchExplainer
    from wsi_cam.one_patch import explain_patch
    from wsi_cam.pipeline import SlideResult, explain_slide
    from wsi_cam.settings import RunSettings
    from wsi_cam.slides.opening import open_slide
    from wsi_cam.slides.slide import Slide

__version__ = "0.1.0"

__all__ = [
    "Classifier",
    "HeatmapStore",
    "PatchExplainer",
    "RunSettings",
    "Slide",
    "SlideResult",
    "__version__",
    "explain_patch",
    "explain_slide",
    "load_classifier",
    "open_heatmap",
    "open_slide",
    "plan_batch",
    "run_batch",
]

_HOME = {
    "Classifier": "wsi_cam.classifiers.bundle",
    "HeatmapStore": "wsi_cam.heatmap.store",
    "PatchExplainer": "wsi_cam.inference",
    "RunSettings": "wsi_cam.settings",
    "Slide": "wsi_cam.slides.slide",
    "SlideResult": "wsi_cam.pipeline",
    "explain_patch": "wsi_cam.one_patch",
    "explain_slide": "wsi_cam.pipeline",
    "load_classifier": "wsi_cam.classifiers.bundle",
    "open_heatmap": "wsi_cam.heatmap.store",
    "open_slide": "wsi_cam.slides.opening",
    "plan_batch": "wsi_cam.batch",
    "run_batch": "wsi_cam.batch",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'wsi_cam' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
