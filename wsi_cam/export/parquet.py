"""The patch table as Apache Parquet, for data frames."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from wsi_cam.export.number_text import rounded
from wsi_cam.export.optional_packages import optional_package
from wsi_cam.export.tables import PROBABILITY, PatchTable
from wsi_cam.publishing import published


def write_patches_parquet(path: Path, table: PatchTable, sample_id: str) -> Path:
    """Write the columns of ``patches.csv`` with a column ``sample_id`` before them; gives ``path`` back.

    Places are float64 level-0 pixels rounded to 0.01, numbers of the model float32, a missing number is null.
    Tables of many slides can be read as one. Raises OutputError where the file cannot be written or the
    package pyarrow is missing.
    """
    arrow = optional_package("pyarrow", "parquet")
    writer = optional_package("pyarrow.parquet", "parquet")
    n = len(table)
    place, size = rounded(table.level0_xy), rounded(np.array(table.patch_level0))
    numbers = {name: np.ascontiguousarray(values) for name, values in table.columns()}
    columns = {
        "sample_id": arrow.DictionaryArray.from_arrays(
            arrow.array(np.zeros(n, np.int32)), arrow.array([sample_id])
        ),
        "minx": arrow.array(np.ascontiguousarray(place[:, 0])),
        "miny": arrow.array(np.ascontiguousarray(place[:, 1])),
        "width": arrow.array(np.full(n, size[0])),
        "height": arrow.array(np.full(n, size[1])),
    }
    probabilities = [name for name in numbers if name.startswith(PROBABILITY)]
    for name in probabilities:
        columns[name] = arrow.array(numbers[name], from_pandas=True)
    columns["status"] = arrow.array(table.status.tolist(), type=arrow.string()).dictionary_encode()
    columns["tissue_fraction"] = arrow.array(np.ascontiguousarray(table.tissue_fraction), from_pandas=True)
    for name in numbers:
        if name not in probabilities:
            columns[name] = arrow.array(numbers[name], from_pandas=True)
    said = {"wsi_cam": json.dumps({"classes": list(table.class_names), "frame": "level-0 pixels"})}
    with published(path) as partial:
        writer.write_table(arrow.table(columns).replace_schema_metadata(said), partial, compression="zstd")
    return path
