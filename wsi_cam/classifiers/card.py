"""The card of a model: what it was trained to see, at which spacing, and how its numbers are read.

On disk it is a JSON object that programs knowing WSInfer-zoo's ``config.json`` can read: their keys
(``num_classes, class_names, patch_size_pixels, spacing_um_px, transform``) mean what they mean there,
ours stand beside them, and keys that nobody here knows survive in ``extra``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from wsi_cam.classifiers.resnet50 import STRIDE_VARIANTS, StrideIn
from wsi_cam.errors import ModelError

Triple = tuple[float, float, float]
Colour = tuple[int, int, int]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
RESEARCH_USE = "Research use only; not for diagnosis."

_VARIANT_PREFIX = "stride_in_"
_WSINFER_KEYS = (
    "spec_version", "num_classes", "class_names", "patch_size_pixels", "spacing_um_px", "transform",
)  # fmt: skip
_OUR_KEYS = (
    "name", "architecture", "architecture_variant", "temperature", "evidence_scale", "label_region_px",
    "default_overlap", "target_class", "class_colors", "head_centred", "research_use",
)  # fmt: skip


@dataclass(frozen=True)
class ModelCard:
    """What has to be known of a classifier to use it. Raises ModelError where values contradict."""

    name: str
    class_names: tuple[str, ...]
    patch_size_px: int
    """Side of the square the network sees, in model pixels."""
    mpp_um: float
    """Spacing of a model pixel, um."""
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    """Of the training images' channels, in RGB between 0 and 1."""
    architecture: str = "resnet50"
    architecture_variant: str = "stride_in_conv2"
    temperature: float = 1.0
    """Probabilities are ``softmax(logits / temperature)``."""
    evidence_scale: tuple[float, ...] | None = None
    """Evidence of each class, in logits, that is drawn in the full colour."""
    label_region_px: int | None = None
    """Side of the central square that the training labels speak of; None is the whole patch."""
    default_overlap: float = 0.0
    target_class: str = ""
    """The class that slide scores and pictures speak of; the last one where not given."""
    class_colors: tuple[Colour, ...] | None = None
    head_centred: bool = False
    """Whether weights and biases of the last layer sum to zero over the classes."""
    research_use: str = RESEARCH_USE
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Data, licences, metrics, training settings: any JSON values, kept as they are."""

    def __post_init__(self) -> None:
        # Lists, as JSON gives them, become tuples, so that equal cards compare equal.
        for name in ("class_names", "mean", "std", "evidence_scale"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else tuple(value))
        if self.class_colors is not None:
            object.__setattr__(self, "class_colors", tuple(tuple(colour) for colour in self.class_colors))
        if not self.target_class and self.class_names:
            object.__setattr__(self, "target_class", self.class_names[-1])
        self._check()

    def _check(self) -> None:
        def demand(ok: bool, name: str, rule: str) -> None:
            if not ok:
                raise ModelError(f"{name} is {getattr(self, name)!r}: it must be {rule}")

        names, n_classes = self.class_names, len(self.class_names)
        demand(n_classes >= 2 and all(isinstance(n, str) and n.strip() for n in names),
               "class_names", "two or more names")  # fmt: skip
        demand(len(set(names)) == n_classes, "class_names", "different for each class")
        demand(_is_whole(self.patch_size_px) and self.patch_size_px >= 32, "patch_size_px", "32 px or more")
        demand(_is_positive(self.mpp_um), "mpp_um", "a positive spacing in um/px")
        demand(len(self.mean) == 3 and all(map(_is_finite, self.mean)), "mean", "three numbers, of R, G, B")
        demand(len(self.std) == 3 and all(map(_is_positive, self.std)), "std", "three positive numbers")
        demand(self.architecture_variant in {_VARIANT_PREFIX + v for v in STRIDE_VARIANTS},
               "architecture_variant", "stride_in_conv1 or stride_in_conv2")  # fmt: skip
        demand(_is_positive(self.temperature), "temperature", "a positive number")
        demand(self.evidence_scale is None
               or (len(self.evidence_scale) == n_classes and all(map(_is_positive, self.evidence_scale))),
               "evidence_scale", f"a positive number for each of the {n_classes} classes")  # fmt: skip
        demand(self.label_region_px is None
               or (_is_whole(self.label_region_px) and 0 < self.label_region_px <= self.patch_size_px),
               "label_region_px", "between 1 and the patch size")  # fmt: skip
        demand(_is_finite(self.default_overlap) and 0 <= self.default_overlap < 1,
               "default_overlap", "at least 0 and below 1")  # fmt: skip
        demand(self.target_class in names, "target_class", f"one of {names}")
        demand(self.class_colors is None
               or (len(self.class_colors) == n_classes and all(map(_is_colour, self.class_colors))),
               "class_colors", f"three numbers of 0 to 255 for each of the {n_classes} classes")  # fmt: skip
        known = sorted(set(self.extra) & {*_WSINFER_KEYS, *_OUR_KEYS})
        demand(not known, "extra", f"free of keys that the card has itself ({', '.join(known)})")

    @property
    def stride_in(self) -> StrideIn:
        """The variant in the words of ``build_resnet50``."""
        variants: dict[str, StrideIn] = {_VARIANT_PREFIX + v: v for v in get_args(StrideIn)}
        return variants[self.architecture_variant]

    def as_dict(self) -> dict[str, Any]:
        """The card as a JSON object."""
        return {
            "spec_version": "1.0",
            "num_classes": len(self.class_names),
            "class_names": list(self.class_names),
            "patch_size_pixels": self.patch_size_px,
            "spacing_um_px": self.mpp_um,
            "transform": [
                {"name": "ToTensor"},
                {"name": "Normalize", "arguments": {"mean": list(self.mean), "std": list(self.std)}},
            ],
            **{key: _plain(getattr(self, key)) for key in _OUR_KEYS},
            **self.extra,
        }

    def canonical_json(self) -> str:
        """One text for one card, whatever the order its keys were given in."""
        try:
            return json.dumps(
                self.as_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
            )
        except (TypeError, ValueError) as error:
            raise ModelError(f"extra holds what JSON cannot say ({error}); use plain values") from error


def card_from_dict(content: object, default_name: str) -> ModelCard:
    """The card that a JSON object describes: ours, or an unchanged WSInfer-zoo ``config.json``.

    A ``Resize`` from p to r pixels at a spacing s is reading r pixels at ``s * p / r``. A single class,
    the way sigmoid heads name theirs, is joined by its negation. Raises ModelError.
    """
    if not isinstance(content, dict):
        raise ModelError("not a JSON object; a card is one, with class_names, patch_size_pixels and more")
    read_px = _value(content, "patch_size_pixels", _is_whole, "a whole number of pixels")
    read_um = _value(content, "spacing_um_px", _is_positive, "a positive spacing in um/px")
    names = tuple(_value(content, "class_names", _are_strings, "a list of names"))
    n_logits = _value(content, "num_classes", _is_whole, "the number of classes")
    if n_logits not in ({len(names), 1} if len(names) == 2 else {len(names)}):
        raise ModelError(f"num_classes is {n_logits}, but class_names holds {len(names)}; make them agree")
    if len(names) == 1:
        names = (f"not {names[0]}", names[0])
    size_px, mean, std = _read_transform(content.get("transform"), read_px)
    ours = {key: content[key] for key in _OUR_KEYS if content.get(key) is not None}
    ours["architecture"] = _value(content, "architecture", lambda v: isinstance(v, str), "such as 'resnet50'")
    try:
        return ModelCard(
            **{"name": default_name, **ours},
            class_names=names,
            patch_size_px=size_px,
            mpp_um=read_um * read_px / size_px,
            mean=mean,
            std=std,
            extra={k: v for k, v in content.items() if k not in _WSINFER_KEYS and k not in _OUR_KEYS},
        )
    except TypeError as error:  # a number where a list belongs, say
        raise ModelError(f"a value has the wrong type ({error}); compare with the documented card") from error


def _read_transform(steps: object, read_px: int) -> tuple[int, Triple, Triple]:
    """Input size, mean and std out of a list of torchvision transforms."""
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise ModelError("transform is missing or no list of {name, arguments}; give ToTensor and Normalize")
    names = [step.get("name") for step in steps]
    unknown = [n for n in names if n not in ("Resize", "ToTensor", "Normalize")]
    if unknown:
        raise ModelError(f"transform {unknown[0]!r} is not supported (only Resize, ToTensor, Normalize)")
    others = [n for n in names if n != "Resize"]
    if others not in (["ToTensor"], ["ToTensor", "Normalize"]) or names.count("Resize") > 1:
        raise ModelError(f"transform {names} is not Resize (optional), ToTensor, Normalize (optional)")
    arguments = {step["name"]: step.get("arguments") or {} for step in steps}
    size_px = _square_size(arguments["Resize"].get("size")) if "Resize" in arguments else read_px
    if "Normalize" not in arguments:
        return size_px, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    mean, std = _triple(arguments["Normalize"], "mean"), _triple(arguments["Normalize"], "std")
    return size_px, mean, std


def _square_size(size: object) -> int:
    if isinstance(size, list) and len(size) in (1, 2) and size[0] == size[-1]:
        size = size[0]
    if not (_is_whole(size) and isinstance(size, int)):
        raise ModelError(f"transform Resize to {size!r}: patches are square, give one whole number of pixels")
    return size


def _triple(arguments: dict[str, Any], key: str) -> Triple:
    value = arguments.get(key)
    if not (isinstance(value, list) and len(value) == 3 and all(map(_is_finite, value))):
        raise ModelError(f"transform Normalize has {key} {value!r}; give three numbers, of R, G and B")
    return value[0], value[1], value[2]


def _value(content: dict[str, Any], key: str, fits: Callable[[object], bool], rule: str) -> Any:
    if key not in content:
        raise ModelError(f"{key!r} is missing; add it ({rule})")
    if not fits(content[key]):
        raise ModelError(f"{key} is {content[key]!r}: it must be {rule}")
    return content[key]


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and _is_finite(value) and value > 0


def _are_strings(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)


def _is_colour(value: Sequence[object]) -> bool:
    return len(value) == 3 and all(isinstance(v, int) and 0 <= v <= 255 for v in value)
