"""What a run of a real slide writes, opened by programs that nobody here wrote."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import ome_zarr_models
import pytest
import shapely
import tifffile
import yaozarrs
import zarr
from PIL import Image
from shapely.geometry import shape

from tests.export import qupath_schema
from tests.export.bioformats import require_bioformats
from tests.make_models import random_resnet50
from wsi_cam import RunSettings, SlideResult, explain_slide, load_classifier
from wsi_cam.classifiers.bundle import Classifier
from wsi_cam.classifiers.card import ModelCard


def make_classifier() -> Classifier:
    card = ModelCard(
        "random ResNet-50",
        ("benign", "invasive", "normal"),
        patch_size_px=96,
        mpp_um=1.0,
        target_class="invasive",
        evidence_scale=(4.0, 4.0, 4.0),
    )
    return Classifier(random_resnet50(3), card, "cpu")


@pytest.fixture(scope="module", params=["0.4", "0.5"])
def result(
    request: pytest.FixtureRequest, shared_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> SlideResult:
    slide = shared_dir / "data" / "slides" / "CMU-1-Small-Region.svs"
    return explain_slide(
        slide, tmp_path_factory.mktemp("out"), make_classifier(), RunSettings(ngff=request.param)
    )


def test_both_validators_accept_both_heatmaps(result: SlideResult) -> None:
    for store in (result.probability, result.evidence):
        yaozarrs.validate_zarr_store(store.folder)
        image = ome_zarr_models.open_ome_zarr(zarr.open_group(store.folder, mode="r"))
        assert f"v{store.ngff.replace('.', '')}" in type(image).__module__
        assert (store.folder / "OME" / "METADATA.ome.xml").is_file()


def test_plain_zarr_reads_the_same_numbers(result: SlideResult) -> None:
    group = zarr.open_group(result.probability.folder, mode="r")
    values = np.asarray(group["0"])
    np.testing.assert_array_equal(values, result.probability.read(0))
    seen = ~np.isnan(values[0])
    np.testing.assert_allclose(values[:, seen].sum(axis=0), 1, atol=1e-5)


def test_the_tiff_says_and_holds_what_the_stores_do(result: SlideResult) -> None:
    path = result.folder / "heatmap.ome.tif"
    expected = np.concatenate([result.probability.read(0), result.evidence.read(0)])
    np.testing.assert_array_equal(tifffile.imread(path), expected)
    bioformats = require_bioformats()
    (pixels,) = bioformats.ome_xml(path).iter("Pixels")
    assert float(pixels.attrib["PhysicalSizeX"]) == pytest.approx(32.0)
    names = [channel.attrib["Name"] for channel in pixels.iter("Channel")]
    assert names == [
        f"{name} {layer}"
        for layer in ("probability", "evidence")
        for name in make_classifier().card.class_names
    ]
    height, width = expected.shape[1:]
    np.testing.assert_array_equal(bioformats.decode(path, 0, (0, 0, width, height)), expected)


def test_the_geojson_is_what_qupath_takes(result: SlideResult) -> None:
    for name in ("patches.geojson", "regions.geojson"):
        content = qupath_schema.read_geojson(result.folder / "qupath" / name)
        qupath_schema.validate(content)
        assert all(shapely.is_valid(shape(feature["geometry"])) for feature in content["features"])
    tiles = qupath_schema.read_geojson(result.folder / "qupath" / "patches.geojson")["features"]
    assert len(tiles) == result.n_patches


def test_table_pictures_and_record_are_whole(result: SlideResult) -> None:
    with (result.folder / "patches.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == result.n_patches
    for path in [*result.folder.glob("*.png"), *result.folder.glob("patches/*.png")]:
        with Image.open(path) as picture:
            picture.load()
            assert min(picture.size) > 100
    record = json.loads((result.folder / "slide.json").read_text())
    assert record["slide"]["identity"]["size"] == 1_938_955
    assert 0 <= record["score"]["value"] <= 1


def test_the_bundled_model_explains_a_real_slide(shared_dir: Path, tmp_path: Path) -> None:
    slide = shared_dir / "data" / "slides" / "CMU-1-Small-Region.svs"
    classifier = load_classifier(device="cpu")
    result = explain_slide(slide, tmp_path, classifier, RunSettings(overlap=0.0, top_patches=1))
    assert result.n_unread == 0
    probability, evidence = result.probability, result.evidence
    assert probability.channel_names == classifier.card.class_names == ("normal", "tumour")
    # A centred head of two classes: what speaks for one speaks against the other.
    values = evidence.read(0)
    np.testing.assert_allclose(values[0], -values[1], atol=1e-4)
