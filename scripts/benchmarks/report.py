"""``docs/benchmark.md`` and a table of the README out of the stored results: no figure is copied by hand."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]
PAGE, README = _ROOT / "docs" / "benchmark.md", _ROOT / "README.md"
#: Between these lines of the README stand the first rows of what the page says at a glance.
_BEGIN, _END = "<!-- from scripts/benchmark -->\n", "<!-- end -->\n"
_ROWS_IN_README = 8
_HEAD = """\
# Speed and memory

Written by `scripts/benchmark` from what it measured; repeat it with that command. What is compared is run in
turn, in one session on one machine, and the ratios are medians of neighbouring runs: they travel between
machines, the seconds do not.
"""

#: What most people come for: in words, the part, and where its figures stand there.
_AT_A_GLANCE = (
    ("Forward pass and evidence of all classes, over the bare forward pass",
     "model", ("forward_and_evidence_over_forward",)),
    ("pytorch-grad-cam's time, in multiples of ours: one class; three classes",
     "model", ("pytorch_grad_cam_1_class_over_ours", "pytorch_grad_cam_3_classes_over_ours")),
    ("Whole run, all files written, over the bare forward passes of its patches",
     "run", ("run_over_bare_forward",)),
    ("WSInfer's whole command, in multiples of ours (it explains nothing)", "peers", ("wsinfer_over_ours",)),
    ("TIAToolbox's whole command, in multiples of ours (the same)", "peers", ("tiatoolbox_over_ours",)),
    ("OpenSlide's time, in multiples of the TIFF reader's, aligned JPEG tiles: 4:2:0; 4:4:4",
     "reading", ("jpeg_420_aligned.openslide_over_tiff", "jpeg_444_aligned.openslide_over_tiff")),
    ("The same, resized by 2: 4:2:0; 4:4:4",
     "reading", ("jpeg_420_resized_2x.openslide_over_tiff", "jpeg_444_resized_2x.openslide_over_tiff")),
    ("Peak memory on a slide of 320 000 px a side, over one of 20 000 px",
     "scaling", ("last_over_first.area: peak_MiB",)),
    ("Time per patch in a slide of 200 000 patches, over one of 1 000",
     "scaling", ("last_over_first.patches: looking_ms_per_patch",)),
    ("Patches/s of stitching, pyramid and store: no overlap; half overlap",
     "stitching", ("no_overlap.patches_per_s", "half_overlap.patches_per_s")),
    ("`wsi-cam --help` over `import torch`", "start", ("help_over_import_torch",)),
    ("Tiles/s of `wsi-cam view`: panning; zooming",
     "viewer", ("slides.made.panning.tiles_per_s", "slides.made.zooming.tiles_per_s")),
)  # fmt: skip


def write_report(kept: Mapping[str, Any], parts: Mapping[str, str]) -> None:
    """Write the page: the main figures, then for every part what it is, on which machine, and its figures.

    The README's table gets the first of the main figures.
    """
    at_a_glance = list(_at_a_glance(kept))
    _write_into_readme(at_a_glance[: _ROWS_IN_README + 1], kept)
    lines = [_HEAD, *at_a_glance, ""]
    for part, module_name in parts.items():
        if part not in kept:
            continue
        module = importlib.import_module(f"scripts.benchmarks.{module_name}")
        machine = kept[part]["machine"]
        title, _, rest = (module.__doc__ or "").strip().partition("\n")
        versions = ", ".join(f"{name} {machine['versions'][name]}" for name in ("torch", "numpy", "zarr"))
        lines += [
            f"## {part}\n\n{title}\n{rest.rstrip()}\n",
            f"{machine['processor']}, {machine['cores']} cores, {machine['torch_threads']} threads of torch, "
            f"GPU: {machine['gpu'] or 'none'}; {versions}.\n",
            "| Figure | Value |\n|---|---|",
            *(f"| {name} | {value} |" for name, value in _flat(kept[part]) if not name.startswith("machine")),
            "",
        ]
    PAGE.write_text("\n".join(lines), encoding="utf-8")


def _at_a_glance(kept: Mapping[str, Any]) -> Iterator[str]:
    yield "| At a glance | |\n|---|---|"
    for words, part, places in _AT_A_GLANCE:
        if part in kept:
            yield f"| {words} | {'; '.join(str(_at(kept[part], place)) for place in places)} |"


def _write_into_readme(rows: list[str], kept: Mapping[str, Any]) -> None:
    before, begin, rest = README.read_text(encoding="utf-8").partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not end:
        raise ValueError(f"{README}: lacks the lines between which the table stands")
    machine = next(iter(kept.values()))["machine"]
    where = f"{machine['processor']}, {machine['cores']} cores, {machine['gpu'] or 'no GPU'}"
    table = "\n".join([rows[0].replace("At a glance", where), *rows[1:]])
    README.write_text(f"{before}{begin}{table}\n{end}{after}", encoding="utf-8")


def _at(content: Mapping[str, Any], place: str) -> Any:
    found: Any = content
    for name in place.split("."):
        found = found[name]
    return found


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}: ")
        else:
            yield prefix + name, ", ".join(map(str, value)) if isinstance(value, list) else value
