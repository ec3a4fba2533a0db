"""DATA of the commands, whatever form it has, as a patch set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from wsi_cam.errors import SettingsError
from wsi_cam.training.annotated_slides import CuttingSettings, cut_annotated_slides
from wsi_cam.training.patches import PatchSet, read_patch_set
from wsi_cam.training.slide_manifest import is_slide_manifest


def read_data(
    path: Path,
    cut_into: Path,
    cutting: CuttingSettings,
    class_names: Sequence[str] | None = None,
    groups: Path | None = None,
    on_progress: Callable[[str, int, int, float | None], None] | None = None,
) -> PatchSet:
    """Class folders, zip or CSV as they are; annotated slides after cutting patches ``cut_into`` a folder.

    Raises what :func:`read_patch_set` and :func:`cut_annotated_slides` raise.
    """
    if not is_slide_manifest(path):
        return read_patch_set(path, class_names, groups)
    if groups is not None:
        raise SettingsError(f"{path}: lists slides, which need no {groups}; add a group column to it")

    def cut(done: int, total: int) -> None:
        if on_progress is not None:
            on_progress("cutting slides", done, total, None)

    names = None if class_names is None else tuple(class_names)
    listed = cut_annotated_slides(path, cut_into, replace(cutting, class_names=names), cut)
    return read_patch_set(listed, class_names)
