"""Slides through OpenSlide: every vendor format it knows, DICOM included."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image

from wsi_cam.errors import SlideError
from wsi_cam.geometry import Box, Level0, Mpp, Size
from wsi_cam.slides.dicom_series import files_of_series
from wsi_cam.slides.level_maps import level_maps
from wsi_cam.slides.regions import part_on_level, region_error, require_associated_image
from wsi_cam.slides.slide import LevelInfo, PixelBox, SlideInfo, plausible_mpp, with_given_mpp

_UM_PER_UNIT = {"centimeter": 1e4, "inch": 25400.0}


def detect_vendor(path: Path) -> str | None:
    """What OpenSlide takes the file for; None where it does not know it."""
    try:
        vendor: str | None = openslide.OpenSlide.detect_format(str(_entry_file(path)))
    except (openslide.OpenSlideError, SlideError):
        return None
    return vendor


class OpenSlideReader:
    """A slide read by OpenSlide.

    Level 0 comes pixel by pixel. On a lower level OpenSlide takes positions in whole level-0 pixels and
    interpolates between the pixels of the level; the box read here starts at the level-0 pixel
    nearest to its corner, so it may lie up to half a level-0 pixel off and be smoothed by as much.
    """

    def __init__(self, path: Path, series: int | None = None, mpp: Mpp | None = None) -> None:
        if series:
            raise SlideError(f"{path}: OpenSlide knows one image per slide; leave out --series")
        self._entry = _entry_file(path)
        self._opening = threading.Lock()
        self._closed = False
        handle = self._open(path)
        properties: dict[str, str] = dict(handle.properties)
        self._downsamples: tuple[float, ...] = handle.level_downsamples
        sizes = [Size(*pair) for pair in handle.level_dimensions]
        self._info = with_given_mpp(_read_info(path, sizes, tuple(handle.associated_images), properties), mpp)
        self._handle: openslide.OpenSlide | None = handle
        self._process = os.getpid()

    @property
    def info(self) -> SlideInfo:
        return self._info

    def read_region(self, level: int, box: PixelBox) -> NDArray[np.uint8]:
        """As :meth:`wsi_cam.slides.slide.Slide.read_region`."""
        part = part_on_level(self._info, level, box)
        if part == box:
            return self._read(level, box)
        pixels = np.full((box[3], box[2], 3), 255, np.uint8)
        if part is not None:
            x, y, width, height = part[0] - box[0], part[1] - box[1], part[2], part[3]
            pixels[y : y + height, x : x + width] = self._read(level, part)
        return pixels

    def read_associated_image(self, name: str) -> NDArray[np.uint8]:
        """As :meth:`wsi_cam.slides.slide.Slide.read_associated_image`."""
        require_associated_image(self._info, name)
        try:
            return _over_white(self._shared_handle().associated_images[name])
        except openslide.OpenSlideError as error:
            self._forget_handle()
            raise SlideError(f"{self._info.path}: cannot read the image {name!r}: {error}") from error

    def close(self) -> None:
        """Lets go of the file; reading is over. A read under way in another thread ends as it should."""
        self._closed = True
        self._forget_handle()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_handle", "_process", "_opening")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._opening = threading.Lock()
        self._forget_handle()

    def _read(self, level: int, box: PixelBox) -> NDArray[np.uint8]:
        x, y, width, height = box
        downsample = self._downsamples[level]
        corner = (round(x * downsample), round(y * downsample))
        try:
            handle = self._shared_handle()
            try:
                image = handle.read_region(corner, level, (width, height))
            except openslide.OpenSlideError:
                # After its first error a handle refuses everything, from every thread: others get a
                # new one, and this region is tried once more by itself, in case it was not to blame.
                if self._handle is handle:
                    self._forget_handle()
                image = self._open(self._info.path).read_region(corner, level, (width, height))
        except openslide.OpenSlideError as error:
            raise region_error(self._info, level, box, error) from error
        return _over_white(image)

    def _shared_handle(self) -> openslide.OpenSlide:
        """The handle of this process, opened when it is first needed; never one inherited by a fork."""
        if self._closed:
            raise SlideError(f"{self._info.path}: the slide was closed; open it again")
        with self._opening:
            if self._handle is None or self._process != os.getpid():
                self._handle, self._process = self._open(self._info.path), os.getpid()
            return self._handle

    def _open(self, path: Path) -> openslide.OpenSlide:
        try:
            return openslide.OpenSlide(str(self._entry))
        except (openslide.OpenSlideError, OSError) as error:
            raise SlideError(
                f"{path}: {str(error).strip() or 'OpenSlide cannot open it'}; "
                "check that it is a slide and was copied completely"
            ) from error

    def _forget_handle(self) -> None:
        # Not closed here: another thread may be reading from it. It closes when the last one lets go.
        self._handle = None
        self._process = -1


def _entry_file(path: Path) -> Path:
    """The file that OpenSlide is given: any one of a DICOM series stands for all."""
    return files_of_series(path)[0] if path.is_dir() else path


def _over_white(image: Image.Image) -> NDArray[np.uint8]:
    """RGB of an RGBA picture laid over white paper."""
    if image.getchannel("A").getextrema()[0] == 255:
        return np.array(image.convert("RGB"))
    rgba = np.asarray(image)
    alpha = rgba[..., 3]
    weight = alpha[..., None].astype(np.uint16)
    mixed = (rgba[..., :3] * weight + 255 * (255 - weight) + 127) // 255
    return mixed.astype(np.uint8)


def _read_info(
    path: Path, sizes: list[Size], associated_images: tuple[str, ...], properties: Mapping[str, str]
) -> SlideInfo:
    mpp, source = _read_mpp(properties)
    levels = []
    for number, (size, to_level0) in enumerate(zip(sizes, level_maps(sizes), strict=True)):
        tile = [_number(properties, f"openslide.level[{number}].tile-{side}") for side in ("width", "height")]
        storage = Size(int(tile[0]), int(tile[1])) if tile[0] and tile[1] else None
        levels.append(LevelInfo(size, to_level0, storage))
    return SlideInfo(
        path=path,
        reader="openslide",
        vendor=properties.get("openslide.vendor", ""),
        levels=tuple(levels),
        mpp=mpp,
        mpp_source=source,
        bounds=_read_bounds(properties),
        associated_images=tuple(sorted(associated_images)),
        has_icc_profile="openslide.icc-size" in properties,
        objective_power=_number(properties, "openslide.objective-power"),
    )


def _read_mpp(properties: Mapping[str, str]) -> tuple[Mpp | None, str]:
    """What OpenSlide says, else the TIFF resolution where it can be that of a slide."""
    x, y = (_number(properties, f"openslide.mpp-{axis}") for axis in "xy")
    if x and y:
        return Mpp(x, y), "openslide.mpp-x/y"
    unit = _UM_PER_UNIT.get(properties.get("tiff.ResolutionUnit", ""))
    per_unit = [_number(properties, f"tiff.{axis}Resolution") for axis in "XY"]
    if unit:
        mpp = plausible_mpp(*(unit / value if value else None for value in per_unit))
        if mpp is not None:
            return mpp, "TIFF resolution"
    return None, ""


def _read_bounds(properties: Mapping[str, str]) -> Box[Level0] | None:
    values = [_number(properties, f"openslide.bounds-{side}") for side in ("x", "y", "width", "height")]
    x, y, width, height = values
    if x is None or y is None or not width or not height:
        return None
    return Box(x, y, width, height)


def _number(properties: Mapping[str, str], name: str) -> float | None:
    """A property as a finite number; None where it is missing or is none."""
    try:
        value = float(properties[name])
    except (KeyError, ValueError):
        return None
    return value if np.isfinite(value) else None
