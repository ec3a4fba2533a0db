"""The words of OME-NGFF about a heatmap: sizes, scales and translations of its levels, its channels.

Plain dictionaries and numbers; nothing here touches a file. Axes are always c, y, x with y and x in
micrometers.

Where the world lies: NGFF places pixel *centres*, and its world is the slide's, whose level-0 pixel
(0, 0) has its centre at the origin (that is what an image without a translation says). Our frames count
from pixel corners, so a heatmap pixel i, of centre i + 0.5, lies at
``mpp * (scale (i + 0.5) + offset - 0.5)`` um for the affine heatmap -> level 0. Hence per axis

    scale_k = s_0 2^k                       with s_0 = mpp * scale
    translation_k = t_0 + s_0 (2^k - 1)/2   with t_0 = mpp * (scale/2 + offset - 1/2)

so that a slide and its heatmap, both opened in a viewer that honours NGFF, lie on each other.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from wsi_cam.errors import OutputError
from wsi_cam.geometry import Affine, Heatmap, Level0, Mpp, Size

Ngff = Literal["0.4", "0.5"]
Rgb = tuple[int, int, int]

LARGEST_TOP_LEVEL = 256
"""The pyramid ends with the first level whose sides are both at most this many pixels."""


@dataclass(frozen=True)
class Channel:
    """One channel of a heatmap: its name, its colour, and the values shown from black to full colour."""

    name: str
    color: Rgb
    window: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class HeatmapFacts:
    """What a stored heatmap says about itself.

    ``size`` is that of level 0 of its pyramid, ``to_level0`` leads from those pixels to the slide's level 0,
    ``mpp`` is the spacing of the slide's level 0, ``provenance`` anything that JSON can hold.
    """

    name: str
    size: Size
    channels: tuple[Channel, ...]
    to_level0: Affine[Heatmap, Level0]
    mpp: Mpp
    provenance: dict[str, Any]

    @property
    def pixel_mpp(self) -> Mpp:
        """Spacing of the heatmap's own finest pixels, um."""
        return Mpp(self.mpp.x * self.to_level0.scale_x, self.mpp.y * self.to_level0.scale_y)


def level_sizes(size: Size) -> tuple[Size, ...]:
    """Sizes of the pyramid's levels, finest first: each half of the one before, rounded up."""
    sizes = [size]
    while max(sizes[-1].width, sizes[-1].height) > LARGEST_TOP_LEVEL:
        last = sizes[-1]
        sizes.append(Size(-(-last.width // 2), -(-last.height // 2)))
    return tuple(sizes)


def level_transforms(facts: HeatmapFacts, level: int) -> list[dict[str, Any]]:
    """``coordinateTransformations`` of one level: a scale and a translation over c, y, x."""
    s0, affine, mpp = facts.pixel_mpp, facts.to_level0, facts.mpp
    t0_x = mpp.x * (affine.scale_x / 2 + affine.offset_x - 0.5)
    t0_y = mpp.y * (affine.scale_y / 2 + affine.offset_y - 0.5)
    factor = 2**level
    return [
        {"type": "scale", "scale": [1.0, s0.y * factor, s0.x * factor]},
        {
            "type": "translation",
            "translation": [0.0, t0_y + s0.y * (factor - 1) / 2, t0_x + s0.x * (factor - 1) / 2],
        },
    ]


def group_attributes(facts: HeatmapFacts, ngff: Ngff) -> dict[str, Any]:
    """Attributes of the root group: ``multiscales`` and ``omero`` of NGFF, ours under ``wsi_cam``."""
    multiscale: dict[str, Any] = {
        "name": facts.name,
        "axes": [
            {"name": "c", "type": "channel"},
            {"name": "y", "type": "space", "unit": "micrometer"},
            {"name": "x", "type": "space", "unit": "micrometer"},
        ],
        "datasets": [
            {"path": str(level), "coordinateTransformations": level_transforms(facts, level)}
            for level in range(len(level_sizes(facts.size)))
        ],
        "type": "mean",
        "metadata": {"description": "mean of the finite level-0 pixels of each 2^k block"},
    }
    omero: dict[str, Any] = {
        "name": facts.name,
        "channels": [_omero_channel(channel) for channel in facts.channels],
        "rdefs": {"defaultT": 0, "defaultZ": 0, "model": "color"},
    }
    ours = {"wsi_cam": _our_attributes(facts)}
    if ngff == "0.5":
        return {"ome": {"version": "0.5", "multiscales": [multiscale], "omero": omero}, **ours}
    return {
        "multiscales": [{"version": "0.4", **multiscale}],
        "omero": {"version": "0.4", **omero},
        **ours,
    }


def facts_from_attributes(attributes: dict[str, Any], size: Size) -> HeatmapFacts:
    """Reads back what :func:`group_attributes` wrote.

    Raises KeyError, TypeError or ValueError where something is missing or not as it was written; the
    reader of the store says which file that was.
    """
    ome = attributes.get("ome", attributes)
    ours = attributes["wsi_cam"]
    channels = tuple(
        Channel(
            name=str(channel["label"]),
            color=_rgb(channel["color"]),
            window=(float(channel["window"]["start"]), float(channel["window"]["end"])),
        )
        for channel in ome["omero"]["channels"]
    )
    return HeatmapFacts(
        name=str(ome["multiscales"][0]["name"]),
        size=size,
        channels=channels,
        to_level0=Affine(**ours["heatmap_to_level0"]),
        mpp=Mpp(**ours["level0_mpp_um"]),
        provenance=dict(ours["provenance"]),
    )


def plain_json(provenance: dict[str, Any]) -> dict[str, Any]:
    """The provenance as JSON will give it back. Raises OutputError where it holds what JSON cannot say."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(provenance, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise OutputError(
            f"the provenance of a heatmap cannot be written as JSON ({error}); use plain finite values"
        ) from error
    return plain


def channels_of(
    names: Sequence[str], colors: Sequence[Rgb], windows: Sequence[tuple[float, float]] | None
) -> tuple[Channel, ...]:
    """Zips names, colours and windows (0 to 1 where None). Raises ValueError where their numbers differ."""
    windows = [(0.0, 1.0)] * len(names) if windows is None else windows
    if not names or len(set(names)) != len(names):
        raise ValueError(f"channel names must be there and differ: {list(names)}")
    return tuple(
        Channel(str(name), (int(red), int(green), int(blue)), (float(start), float(end)))
        for name, (red, green, blue), (start, end) in zip(names, colors, windows, strict=True)
    )


def _omero_channel(channel: Channel) -> dict[str, Any]:
    start, end = channel.window
    return {
        "label": channel.name,
        "color": "{:02X}{:02X}{:02X}".format(*channel.color),
        "active": True,
        "window": {"min": start, "max": end, "start": start, "end": end},
    }


def _our_attributes(facts: HeatmapFacts) -> dict[str, Any]:
    affine = facts.to_level0
    return {
        "heatmap_to_level0": {
            "scale_x": affine.scale_x,
            "scale_y": affine.scale_y,
            "offset_x": affine.offset_x,
            "offset_y": affine.offset_y,
        },
        "level0_mpp_um": {"x": facts.mpp.x, "y": facts.mpp.y},
        "provenance": facts.provenance,
    }


def _rgb(text: str) -> Rgb:
    if len(text) != 6:
        raise ValueError(f"not a colour RRGGBB: {text}")
    return (int(text[0:2], 16), int(text[2:4], 16), int(text[4:6], 16))
