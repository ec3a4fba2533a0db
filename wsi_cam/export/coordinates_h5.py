"""Coordinates of patches as HDF5, in the form that CLAM, WSInfer and their relatives read.

A dataset ``coords`` (n, 2) of integer level-0 corners, with the attributes ``patch_size``, ``patch_level``
and ``patch_spacing_um_px``. As in WSInfer the level is 0 and the size is that of a patch in level-0
pixels, so that ``read_region(corner, 0, (size, size))`` is the patch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wsi_cam.errors import OutputError
from wsi_cam.export.optional_packages import optional_package
from wsi_cam.export.tables import PatchTable
from wsi_cam.publishing import published

#: Sides that differ by more than this fraction are no square.
_SQUARE_TOLERANCE = 0.01


def write_coordinates_h5(path: Path, table: PatchTable, mpp_um: float) -> Path:
    """Write the corners of all patches; gives ``path`` back. ``mpp_um`` is the model's spacing.

    Corners and size are rounded to whole pixels, as these formats have it. Raises OutputError where the
    slide's pixels are not square (the format has one size only), the file cannot be written, or the
    package h5py is missing.
    """
    h5py = optional_package("h5py", "h5")
    width, height = table.patch_level0
    if abs(width - height) > _SQUARE_TOLERANCE * max(width, height):
        raise OutputError(
            f"{path}: patches of {width:g} x {height:g} level-0 pixels cannot be said in this format, "
            "which has one size; use csv or parquet"
        )
    corners = np.rint(table.level0_xy).astype(np.int64)
    with published(path) as partial, h5py.File(partial, "w", libver=("earliest", "v110")) as file:
        coords = file.create_dataset(
            "coords", data=corners, compression="gzip" if len(corners) else None, track_times=False
        )
        coords.attrs["patch_size"] = round((width + height) / 2)
        coords.attrs["patch_level"] = 0
        coords.attrs["patch_spacing_um_px"] = float(mpp_um)
    return path
