"""What the writers of TIFF slides say about them, each in its own place: spacing, power, other pictures."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import get_ident
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from wsi_cam.errors import SlideError
from wsi_cam.geometry import Mpp
from wsi_cam.slides.slide import LARGEST_REGION_BYTES, plausible_mpp

log = logging.getLogger(__name__)

_UM_PER_RESOLUTION_UNIT = {2: 25400.0, 3: 1e4}  # inch, centimetre
_UM_PER_OME_UNIT = {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "pm": 1e-6}
_NAMES = ("thumbnail", "label", "macro")


@dataclass(frozen=True)
class SlideFacts:
    """``associated_images``: name -> page. ``level_factors``: downsamples where the file states them."""

    vendor: str
    mpp: Mpp | None = None
    mpp_source: str = ""
    objective_power: float | None = None
    associated_images: Mapping[str, int] = field(default_factory=dict)
    level_factors: tuple[int, ...] = ()


@contextmanager
def tifffile_kept_quiet() -> Iterator[None]:
    """What tifffile logs in this thread goes to our log at debug level: the checks here say it themselves."""
    thread = get_ident()

    def pass_on(record: logging.LogRecord) -> bool:
        if record.thread != thread:
            return True
        log.debug("tifffile: %s", record.getMessage())
        return False

    logger = logging.getLogger("tifffile")
    logger.addFilter(pass_on)
    try:
        yield
    finally:
        logger.removeFilter(pass_on)


def chain_of_pages(tiff: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """The main chain of directories; its frames, which borrow from a page, do not occur as we open files."""
    return [page for page in tiff.pages if isinstance(page, tifffile.TiffPage)]


def generic_facts(page: tifffile.TiffPage) -> SlideFacts:
    """Any TIFF: its resolution, where that can be the spacing of a slide."""
    mpp = resolution_mpp(page)
    return SlideFacts("generic-tiff", mpp, "TIFF resolution" if mpp else "")


def resolution_mpp(page: tifffile.TiffPage) -> Mpp | None:
    """Spacing from XResolution, YResolution and ResolutionUnit; None where it cannot be one."""
    unit = _UM_PER_RESOLUTION_UNIT.get(page.tags.valueof(296, 2))
    if unit is None:
        return None
    spacings = []
    for code in (282, 283):
        value = page.tags.valueof(code)
        if value is None or not value[0] or not value[1]:
            return None
        spacings.append(unit * value[1] / value[0])
    return plausible_mpp(*spacings)


def aperio_facts(tiff: tifffile.TiffFile) -> SlideFacts:
    """Aperio: ``|name = value`` pairs in the first description, names on the second line of the others."""
    first = tiff.pages.first
    pairs = (part.partition("=") for part in first.description.split("|")[1:])
    values = {name.strip(): value.strip() for name, _, value in pairs}
    mpp, source = _positive(values.get("MPP")), "aperio.MPP"
    spacing = Mpp(mpp, mpp) if mpp else resolution_mpp(first)
    if not mpp:
        source = "TIFF resolution" if spacing else ""
    pictures: dict[str, int] = {}
    for index, page in enumerate(chain_of_pages(tiff)):
        if not page.is_tiled:
            name = "thumbnail" if index == 1 else _aperio_name(page)
            if name:
                pictures[name] = index
    return SlideFacts("aperio", spacing, source, _positive(values.get("AppMag")), pictures)


def _aperio_name(page: tifffile.TiffPage) -> str:
    lines = page.description.splitlines()
    name = lines[1].split(" ")[0] if len(lines) > 1 else ""
    # Newer scanners say it by the page's kind only: 1 a label, 9 a macro image
    return name or {1: "label", 9: "macro"}.get(page.subfiletype, "")


def philips_facts(tiff: tifffile.TiffFile, level_count: int) -> SlideFacts | None:
    """Philips: an XML of DICOM attributes in the first description; None for any other file.

    Its levels are padded to whole tiles, so their sizes say nothing of the downsample; the spacing of
    each level does.
    """
    if not is_philips(tiff):
        return None
    image = _philips_slide(ElementTree.fromstring(tiff.pages.first.description))
    if image is None:
        return None
    spacings = [
        spacing
        for attribute in image.findall(
            "Attribute[@Name='PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE']/Array/DataObject/"
            "Attribute[@Name='DICOM_PIXEL_SPACING']"
        )
        if (spacing := _philips_spacing(attribute))
    ]
    own = image.find("Attribute[@Name='DICOM_PIXEL_SPACING']")
    mpp = (_philips_spacing(own) if own is not None else None) or (spacings[0] if spacings else None)
    factors: tuple[int, ...] = ()
    if len(spacings) == level_count:
        factors = tuple(max(1, round((s.x / spacings[0].x + s.y / spacings[0].y) / 2)) for s in spacings)
    pictures = {
        name.lower(): index
        for index, page in enumerate(chain_of_pages(tiff))
        for name in ("Label", "Macro")
        if not page.is_tiled and page.description.startswith(name)
    }
    source = "philips.DICOM_PIXEL_SPACING" if mpp else ""
    return SlideFacts("philips", mpp, source, None, pictures, factors)


def is_philips(tiff: tifffile.TiffFile) -> bool:
    first = tiff.pages.first
    return str(first.software).startswith("Philips") and "DPUfsImport" in first.description


def _philips_slide(root: ElementTree.Element) -> ElementTree.Element | None:
    """The one scanned image that is the slide, not its label or macro picture."""
    for image in root.findall("Attribute[@Name='PIM_DP_SCANNED_IMAGES']/Array/DataObject"):
        kind = image.find("Attribute[@Name='PIM_DP_IMAGE_TYPE']")
        if kind is not None and kind.text == "WSI":
            return image
    return None


def _philips_spacing(attribute: ElementTree.Element) -> Mpp | None:
    """``"0.00025" "0.00025"``: row spacing, then column spacing, in mm."""
    numbers = [_positive(text) for text in (attribute.text or "").replace('"', " ").split()]
    if len(numbers) == 2 and numbers[0] and numbers[1]:
        return Mpp(1e3 * numbers[1], 1e3 * numbers[0])
    return None


def ome_facts(tiff: tifffile.TiffFile, series: int) -> SlideFacts:
    """OME-XML: PhysicalSizeX/Y of the image's pixels, and other images that are named like label or macro."""
    root = ElementTree.fromstring(tiff.ome_metadata or "<OME/>")
    images = root.findall("{*}Image")
    mpp = None
    if series < len(images) and (pixels := images[series].find("{*}Pixels")) is not None:
        sizes = [
            (_positive(pixels.get(f"PhysicalSize{axis}")) or 0.0)
            * _UM_PER_OME_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"), 0.0)
            for axis in "XY"
        ]
        mpp = Mpp(sizes[0] or sizes[1], sizes[1] or sizes[0]) if any(sizes) else None
    objective = root.find("{*}Instrument/{*}Objective")
    power = _positive(objective.get("NominalMagnification")) if objective is not None else None
    pictures = {
        name: one.keyframe.index
        for number, one in enumerate(tiff.series)
        for name in _NAMES
        if number != series and name in one.name.lower() and isinstance(one.keyframe.index, int)
    }
    return SlideFacts("ome-tiff", mpp, "OME-XML" if mpp else "", power, pictures)


def read_picture(path: Path, page_index: int) -> NDArray[np.uint8]:
    """RGB (h, w, 3) of a whole page; raises SlideError, ValueError and what decoders raise."""
    with tifffile_kept_quiet(), tifffile.TiffFile(path) as tiff:
        page = chain_of_pages(tiff)[page_index]
        if page.imagewidth * page.imagelength * 3 > LARGEST_REGION_BYTES:
            raise SlideError(f"{path}: page {page_index} is larger than 1 GiB")
        pixels = page.asarray(maxworkers=1)
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] < 3:
        raise ValueError(f"{pixels.dtype} {pixels.shape} is no RGB picture")
    return np.ascontiguousarray(pixels[..., :3])


def _positive(text: str | None) -> float | None:
    try:
        value = float((text or "").strip())
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None
