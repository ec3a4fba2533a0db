"""napari's reader of OME-Zarr returns the classes as layers with names, colours, ranges and scale.

napari brings a hundred packages, so it is no test dependency: where it is installed
(``pip install napari-ome-zarr dask``) this test runs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.export.make_heatmaps import heatmap, random_values
from wsi_cam.geometry import Affine, Mpp


# The warnings are napari's own, of its imports.
@pytest.mark.filterwarnings("ignore")
def test_napari_gets_a_layer_of_every_class_with_its_name_colour_range_and_scale(tmp_path: Path) -> None:
    reason = "napari-ome-zarr is not installed, so napari's reader cannot be asked"
    napari_ome_zarr = pytest.importorskip("napari_ome_zarr", reason=reason, exc_type=ImportError)
    pytest.importorskip("napari", reason=reason, exc_type=ImportError)
    scale, mpp = (64.25, 62.5), Mpp(0.5, 0.52)
    store = heatmap(tmp_path / "probability.ome.zarr", random_values(700, 520, 1), Affine(*scale), mpp)
    reader = napari_ome_zarr.napari_get_reader(str(store.folder))
    ((levels, options, kind),) = reader(str(store.folder))
    assert kind == "image"
    assert [level.shape for level in levels] == [(2, 520, 700), (2, 260, 350), (2, 130, 175)]
    for number in (0, 2):
        np.testing.assert_array_equal(np.asarray(levels[number]), store.read(number))
    assert options["channel_axis"] == 0
    assert options["name"] == ["probability: normal", "probability: tumour"]
    assert [tuple(limits) for limits in options["contrast_limits"]] == [(0.0, 1.0), (0.0, 1.0)]
    tops = [np.rint(255 * np.asarray(map_.colors[-1][:3])).tolist() for map_ in options["colormap"]]
    assert tops == [[70, 130, 180], [200, 0, 0]]
    # The reader (0.10) takes the scale and leaves the translation of half a pixel out.
    np.testing.assert_allclose(options["scale"], [scale[1] * mpp.y, scale[0] * mpp.x])
    assert set(options["units"]) == {"micrometer"}
