"""What one slide's run knows before the network looks: slide, tissue, plan."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_cam.classifiers.card import ModelCard
from wsi_cam.errors import SettingsError, SpacingError, TissueError
from wsi_cam.export.class_colours import RGB, class_colours
from wsi_cam.geometry import Affine, Box, Level0, Mpp, Thumbnail
from wsi_cam.inference import PatchExplainer
from wsi_cam.settings import RunSettings
from wsi_cam.slides.slide import Slide, require_mpp
from wsi_cam.slides.thumbnail import read_thumbnail
from wsi_cam.tiling.mask_picture import is_mask_picture, tissue_from_picture
from wsi_cam.tiling.patch_plan import PatchPlan, plan_patches
from wsi_cam.tiling.roi import mask_from_polygons, read_roi
from wsi_cam.tiling.tissue import TissueMask, find_tissue

log = logging.getLogger(__name__)

#: A thumbnail with this many pixels along its longer side is good enough for a picture.
PICTURE_PX = 1400

#: Full colour of evidence, in logits, for a model whose card gives no scale.
DEFAULT_EVIDENCE_SCALE = 10.0


@dataclass(frozen=True, eq=False)
class Thumb:
    """The small picture of a slide, uint8 (h, w, 3) RGB, and where its pixels lie."""

    image: NDArray[np.uint8]
    to_level0: Affine[Thumbnail, Level0]

    def for_pictures(self) -> Thumb:
        """As small as pictures of the slide can do with; as it is it may weigh 50 MB all the while."""
        factor = max(self.image.shape[:2]) // PICTURE_PX
        if factor < 2:
            return self
        reduced = np.asarray(Image.fromarray(self.image).reduce(factor))
        affine = self.to_level0
        wider = Affine[Thumbnail, Level0](
            affine.scale_x * factor, affine.scale_y * factor, affine.offset_x, affine.offset_y
        )
        return Thumb(reduced, wider)


@dataclass(frozen=True, eq=False)
class SlideJob:
    """One slide ready to be looked at."""

    sample_id: str
    slide: Slide
    mpp: Mpp
    thumb: Thumb
    """For pictures; the tissue was found on a larger one."""
    tissue: TissueMask
    plan: PatchPlan
    explainer: PatchExplainer
    settings: RunSettings

    @property
    def card(self) -> ModelCard:
        return self.explainer.classifier.card

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.card.class_names

    @property
    def target_class(self) -> str:
        """The class that slide score and overview speak of."""
        return self.settings.target_class or self.card.target_class

    @property
    def target_index(self) -> int:
        return self.class_names.index(self.target_class)

    @property
    def evidence_scales(self) -> tuple[float, ...]:
        return evidence_scales(self.card)

    @property
    def colours(self) -> dict[str, RGB]:
        given = zip(self.class_names, self.card.class_colors or (), strict=False)
        return class_colours(self.class_names, dict(given))


def evidence_scales(card: ModelCard) -> tuple[float, ...]:
    """Evidence drawn in full colour, per class: the card's, or one constant; never a slide's own."""
    return card.evidence_scale or (DEFAULT_EVIDENCE_SCALE,) * len(card.class_names)


class NothingToClassify(TissueError):
    """A TissueError with the picture that shows why: the thumbnail, and the mask where there is one."""

    def __init__(self, message: str, thumb: Thumb, tissue: TissueMask | None) -> None:
        super().__init__(message)
        self.thumb, self.tissue = thumb, tissue


def _warn_of_bounds(tissue: Path, bounds: Box[Level0] | None) -> None:
    """Regions that were drawn in QuPath would lie elsewhere on a slide with bounds, and nothing show it."""
    if bounds is not None and (bounds.x or bounds.y):
        log.warning(
            "%s: its coordinates are taken from the corner of level 0; QuPath, where it crops the slide to "
            "its bounds, counts from %g, %g: look at tissue.png",
            tissue,
            bounds.x,
            bounds.y,
        )


def prepare_job(sample_id: str, slide: Slide, explainer: PatchExplainer, settings: RunSettings) -> SlideJob:
    """Find the tissue and plan the patches.

    Raises SpacingError, SettingsError, or NothingToClassify where no patch is left.
    """
    names = explainer.classifier.card.class_names
    if settings.target_class and settings.target_class not in names:
        raise SettingsError(f"target class {settings.target_class!r}: the model knows {', '.join(names)}")
    mpp = require_mpp(slide.info)
    card = explainer.classifier.card
    thumb = Thumb(*read_thumbnail(slide, mpp))
    tissue: TissueMask | None = None
    try:
        if settings.tissue and is_mask_picture(settings.tissue):
            overview_um = thumb.to_level0.scale_x * mpp.x
            tissue = tissue_from_picture(settings.tissue, slide.info.size, mpp, overview_um)
        elif settings.tissue:
            polygons = read_roi(settings.tissue)
            _warn_of_bounds(settings.tissue, slide.info.bounds)
            tissue = mask_from_polygons(
                polygons, thumb.image.shape[:2], thumb.to_level0, str(settings.tissue)
            )
        else:
            tissue = find_tissue(thumb.image, thumb.to_level0, mpp)
        plan = plan_patches(
            tissue,
            slide.info.size,
            mpp,
            [level.to_level0 for level in slide.info.levels],
            size_px=card.patch_size_px,
            mpp_um=card.mpp_um,
            overlap=card.default_overlap if settings.overlap is None else settings.overlap,
            min_tissue=settings.min_tissue,
            cell_px=explainer.cell_px,
        )
    except SpacingError as error:
        raise SpacingError(f"{slide.info.path}: {error}") from error
    except TissueError as error:
        raise NothingToClassify(f"{slide.info.path}: {error}", thumb, tissue) from error
    log.info("%s: %d patches on level %d", slide.info.path, len(plan), plan.level)
    return SlideJob(sample_id, slide, mpp, thumb.for_pictures(), tissue, plan, explainer, settings)
