"""What a run was asked to do: one frozen record, filled from a TOML file and the command line.

The record holds what was *requested*; what came of it (the stride that an overlap was rounded to,
the device found) is recorded beside it in each ``slide.json`` as *effective*.
"""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_type_hints

from wsi_cam.errors import SettingsError
from wsi_cam.export.formats import FORMATS


@dataclass(frozen=True)
class RunSettings:
    """Settings of ``run``; ``None`` means "decide for me".

    Each name is an option of the command (``min_tissue`` is ``--min-tissue``) and a key of the TOML
    file. Spacings are in um/px, fractions lie between 0 and 1.
    """

    model: Path | None = None
    """Bundle folder; the bundled model where None."""
    mpp: float | None = None
    """Spacing of level 0 in place of what the slides say; for slides that say nothing or something wrong."""
    overlap: float | None = None
    """Fraction of a patch shared with its neighbour; the model card's default where None."""
    tissue: Path | None = None
    """GeoJSON polygons in level-0 pixels, or a mask picture of the whole slide."""
    min_tissue: float = 0.1
    """Least share of a patch that must be tissue."""
    target_layer: str = "layer4"
    heatmap_mpp: float | None = None
    """Spacing of the heatmap's pixels; the lattice of the target layer where None."""
    target_class: str | None = None
    """The class that slide score and pictures speak of; the model card's where None."""
    batch_size: int | None = None
    num_workers: int | None = None
    """Threads that read and decode; 0 reads in the thread that classifies."""
    device: str = "auto"
    reader: str = "auto"
    series: int | None = None
    max_unread: float = 0.1
    """Share of a slide's patches that may be unreadable; above it the slide fails."""
    ngff: str = "0.4"
    top_patches: int = 3
    """Patches per class that get a picture."""
    export: tuple[str, ...] = ("qupath", "ome-tiff", "png", "csv")
    """Formats written with the heatmaps; ``wsi-cam export`` writes others later, without the model."""

    def __post_init__(self) -> None:
        def demand(ok: bool, name: str, rule: str) -> None:
            if not ok:
                raise SettingsError(f"{name} is {getattr(self, name)!r}: it must be {rule}")

        demand(self.mpp is None or self.mpp > 0, "mpp", "a positive spacing in um/px, such as 0.25")
        demand(self.overlap is None or 0 <= self.overlap < 1, "overlap", "at least 0 and below 1")
        demand(0 <= self.min_tissue <= 1, "min_tissue", "between 0 and 1")
        demand(self.heatmap_mpp is None or self.heatmap_mpp > 0, "heatmap_mpp", "a positive spacing in um/px")
        demand(self.batch_size is None or self.batch_size > 0, "batch_size", "at least 1")
        demand(self.num_workers is None or self.num_workers >= 0, "num_workers", "0 or more")
        demand(0 <= self.max_unread <= 1, "max_unread", "between 0 and 1")
        demand(self.reader in ("auto", "tiff", "openslide"), "reader", "auto, tiff or openslide")
        demand(self.ngff in ("0.4", "0.5"), "ngff", "0.4 (QuPath reads it) or 0.5")
        demand(self.top_patches >= 0, "top_patches", "0 or more")
        demand(set(self.export) <= set(FORMATS), "export", f"some of {', '.join(FORMATS)}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; paths become text."""
        plain = {name: str(v) if isinstance(v, Path) else v for name, v in asdict(self).items()}
        return plain | {"export": list(self.export)}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> RunSettings:
        """The settings whose :meth:`as_dict` this is."""
        paths = {name: Path(plain[name]) for name in ("model", "tissue") if plain[name] is not None}
        return cls(**plain | paths | {"export": tuple(plain["export"])})


def read_settings(config: Path | None, given: dict[str, Any]) -> RunSettings:
    """Settings from a TOML file with the ``given`` values (those not None) laid over it.

    Raises SettingsError for a file that is not TOML, an unknown key or a value of the wrong type.
    """
    settings = RunSettings()
    if config is not None:
        settings = replace(settings, **_read_toml(config))
    return replace(settings, **{name: value for name, value in given.items() if value is not None})


def _read_toml(config: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"{config}: cannot be read ({error.strerror}); give the path of a TOML file"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{config}: not a TOML file ({error})") from error
    hints = get_type_hints(RunSettings)
    values = {}
    for key, value in content.items():
        name = key.replace("-", "_")
        if name not in hints:
            near = get_close_matches(name, [f.name for f in fields(RunSettings)], n=1)
            raise SettingsError(
                f"{config}: unknown setting {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")
            )
        values[name] = _convert(
            value, get_args(hints[name]) or (hints[name],), f"{config}: {key}", config.parent
        )
    return values


def _convert(value: Any, kinds: tuple[Any, ...], what: str, folder: Path) -> Any:
    """A TOML value as one of ``kinds``; whole numbers pass as floats, texts as paths beside the file."""
    if str in kinds and Ellipsis in kinds:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise SettingsError(f"{what} is {value!r}: a list of names is wanted")
    if isinstance(value, str) and Path in kinds:
        return folder / Path(value).expanduser()
    if isinstance(value, int) and not isinstance(value, bool) and float in kinds:
        return float(value)
    if type(value) in kinds:
        return value
    names = " or ".join(kind.__name__ for kind in kinds if kind is not type(None))
    raise SettingsError(f"{what} is {value!r}: a {names} is wanted")
