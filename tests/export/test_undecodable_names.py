"""A slide whose file name is not UTF-8, as old disks and scanners have them, through a whole run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import tifffile

from tests.make_models import colour_network, model_card
from tests.make_slides import tissue_image, write_svs
from wsi_cam import RunSettings, explain_slide
from wsi_cam.classifiers.bundle import Classifier
from wsi_cam.export.exporters import export
from wsi_cam.export.qupath_project import write_qupath_project
from wsi_cam.export.source import ExportOptions, export_source
from wsi_cam.heatmap.store import open_heatmap
from wsi_cam.run_folder import RunFolder

CARD = model_card(patch_size_px=128, mpp_um=1.0, evidence_scale=(5.0, 5.0))


def undecodable_slide(folder: Path) -> Path:
    """A small slide named f\xfcr.svs in Latin-1; skips where the disk takes UTF-8 names only."""
    plain = write_svs(folder / "plain.svs", tissue_image(400, 500, [(0, 0, 500, 400)]), mpp=0.5, levels=(1,))
    path = Path(os.fsdecode(os.fsencode(folder) + b"/f\xfcr.svs"))
    try:
        plain.rename(path)
    except OSError as error:
        pytest.skip(f"a file name must be UTF-8 here ({error.strerror})")
    return path


@pytest.mark.parametrize("ngff", ["0.4", "0.5"])
def test_every_file_of_a_slide_with_a_name_that_is_not_utf8_can_be_read(tmp_path: Path, ngff: str) -> None:
    path = undecodable_slide(tmp_path)
    settings = RunSettings(ngff=ngff, num_workers=0, top_patches=1)
    model = Classifier(colour_network(card=CARD), CARD, "cpu")
    result = explain_slide(path, tmp_path / "out", model, settings)
    run = RunFolder(tmp_path / "out")
    source = export_source(run, result.sample_id)
    for name in ("overlay", "asap", "figure"):  # the run wrote the others that say words
        export(source, name, ExportOptions())
    write_qupath_project(run, [source])
    recorded: list[dict[str, Any]] = [
        open_heatmap(result.folder / f"{layer}.ome.zarr").provenance for layer in ("probability", "evidence")
    ]
    for name in ("heatmap.ome.tif", "overlay.ome.tif"):
        with tifffile.TiffFile(result.folder / name) as tiff:
            assert tiff.ome_metadata is not None
            root = ElementTree.fromstring(tiff.ome_metadata)
        (told,) = (entry.text for entry in root.findall(".//{*}M") if entry.get("K") == "provenance")
        assert told is not None
        recorded.append(json.loads(told))
    assert [of["slide"]["path"] for of in recorded] == [str(path)] * 4
    # Everything that was written is what it says it is.
    for file in run.path.rglob("*"):
        if file.suffix in (".xml", ".svg"):
            ElementTree.parse(file)
        elif file.suffix in (".json", ".geojson", ".qpproj") or file.name in (".zattrs", ".zgroup"):
            json.loads(file.read_text(encoding="utf-8"))
        elif file.suffix == ".csv":
            file.read_text(encoding="utf-8")
