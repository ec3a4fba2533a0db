"""What a class is called and coloured in other programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

RGB = tuple[int, int, int]

_TUMOUR: RGB = (200, 0, 0)
_NORMAL: RGB = (70, 130, 180)
#: Okabe and Ito's colours, told apart by the colour-blind, for classes that are neither.
_OTHERS: tuple[RGB, ...] = (
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
)
_TUMOUR_WORDS = ("tumour", "tumor", "cancer", "carcinoma", "malign", "metasta")
_NORMAL_WORDS = ("normal", "benign", "healthy", "negative", "background")


def class_colours(class_names: Sequence[str], given: Mapping[str, RGB] | None = None) -> dict[str, RGB]:
    """A colour for every class: the one ``given``, or red for the first tumour, steel blue for the
    first normal tissue, and distinct colours for the rest, in a fixed order.
    """
    colours: dict[str, RGB] = {}
    rest = [colour for colour in _OTHERS if colour not in (given or {}).values()]
    for index, name in enumerate(class_names):
        colour = (given or {}).get(name)
        if colour is None:
            colour = _colour_by_meaning(name)
        if colour is None or (colour in colours.values() and name not in (given or {})):
            colour = rest.pop(0) if rest else _OTHERS[index % len(_OTHERS)]
        colours[name] = colour
    return colours


def _colour_by_meaning(class_name: str) -> RGB | None:
    lowered = class_name.lower()
    if any(word in lowered for word in _NORMAL_WORDS) or lowered.startswith("non"):
        return _NORMAL
    if any(word in lowered for word in _TUMOUR_WORDS):
        return _TUMOUR
    return None


def displayed_class_names(class_names: Sequence[str]) -> dict[str, str]:
    """Names for QuPath: ``tumour`` becomes ``Tumour (model)``.

    QuPath's own ``Tumor``, ``Stroma`` and the like would keep the colours of the user's session, and a
    colon would make a derived class: both are avoided. Classes that differ stay different.
    """
    plain = {name: " ".join(name.replace(":", "-").split()) or "class" for name in class_names}
    capital = {name: text[:1].upper() + text[1:] for name, text in plain.items()}
    names = capital if len(set(capital.values())) == len(capital) else plain
    if len(set(names.values())) < len(names):
        names = {name: f"{text} {index}" for index, (name, text) in enumerate(names.items())}
    return {name: f"{text} (model)" for name, text in names.items()}
