"""The synthetic cohort is what its truth says; areas and figures are the truth's where the model knows it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from scripts.cohort_maker import (
    GLASS,
    GREATEST_SHARE,
    PATCH_MM2,
    TUMOUR,
    Layout,
    choose_pictures,
    grow_foci,
    main,
    plan_cohort,
    plan_slide,
    write_cohort,
)
from tests.make_models import colour_network, model_card
from tests.make_slides import tissue_texture
from wsi_cam import RunSettings, explain_slide
from wsi_cam.classifiers.bundle import Classifier
from wsi_cam.cohort.slide_numbers import slide_numbers
from wsi_cam.evaluation.cohort import TruthSettings, evaluate_cohort
from wsi_cam.evaluation.figures import cohort_figures
from wsi_cam.export.source import export_source
from wsi_cam.inputs import read_manifest
from wsi_cam.run_folder import RunFolder

CARD = model_card(patch_size_px=96, mpp_um=0.972, label_region_px=32)


def pictures(n: int = 5) -> list[list[NDArray[np.uint8]]]:
    generator = np.random.default_rng(0)
    return [[tissue_texture(96, 96, generator) for _ in range(n)] for _ in range(2)]


def layouts(*tumour: int, n_tissue: int = 220) -> list[Layout]:
    generator = np.random.default_rng(4)
    return [plan_slide(f"layout_{i}", n_tissue, n, generator) for i, n in enumerate(tumour)]


def test_a_cohort_goes_from_one_tumour_patch_to_a_tenth_and_is_repeatable() -> None:
    cohort = plan_cohort(40, 0)
    counts = [each.numbers["tumour_patches"] for each in cohort]
    with_tumour = [count for count in counts if count]
    assert len(with_tumour) == 24
    assert min(with_tumour) == 1
    assert sum(count >= 50 for count in counts) >= 3
    assert max(each.numbers["tumour_share"] for each in cohort) <= GREATEST_SHARE * 1.05
    again = plan_cohort(40, 0)
    assert all(np.array_equal(a.foci, b.foci) for a, b in zip(cohort, again, strict=True))


def test_foci_are_connected_apart_and_inside_the_tissue() -> None:
    tissue = np.zeros((30, 40), bool)
    tissue[3:27, 3:37] = True
    foci = grow_foci(tissue, 70, np.random.default_rng(1))
    assert (foci > 0).sum() == 70
    assert not (foci > 0)[~tissue].any()
    for number in range(1, foci.max() + 1):
        assert ndimage.label(foci == number)[1] == 1
        near = ndimage.binary_dilation(foci == number, np.ones((3, 3)), iterations=2)
        assert set(np.unique(foci[near])) <= {0, number}


def test_no_picture_stands_twice_on_a_slide_while_they_last() -> None:
    layout = layouts(9)[0]
    normal = int((layout.kind == 0).sum())
    chosen = choose_pictures(layout, [normal, 4], np.random.default_rng(0))
    assert len(np.unique(chosen[layout.kind == 0])) == normal
    assert np.bincount(chosen[layout.kind == TUMOUR]).max() == 3
    assert (chosen[layout.kind == GLASS] == -1).all()


class CentreOnly(nn.Module):
    """Of three by three cells the one in the middle, as loud as all nine: what a label speaks of."""

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        kept = torch.zeros_like(cells)
        kept[..., 1, 1] = 9 * cells[..., 1, 1]
        return kept


@pytest.mark.parametrize(("overlap", "file_format"), [(0.0, "scn"), (1 / 3, "svs")])
def test_where_the_model_knows_the_truth_areas_and_figures_are_the_truth_s(
    tmp_path: Path, overlap: float, file_format: str
) -> None:
    """Two slides without tumour and one of 52 patches of it, in the colour that the stand-in fires on."""
    cohort = tmp_path / "cohort"
    large = plan_slide("large", 530, 52, np.random.default_rng(7))
    planned = [*layouts(0, 0, n_tissue=40), large]
    write_cohort(cohort, planned, pictures(), seed=0, file_format=file_format, marked=True)
    network = colour_network(card=CARD)
    network.layer4 = nn.Sequential(network.layer4, CentreOnly())
    settings = RunSettings(overlap=overlap, top_patches=0, export=())
    run = RunFolder(tmp_path / "out")
    for slide in read_manifest(cohort / "manifest.csv"):
        explain_slide(slide.path, run.path, Classifier(network, CARD, "cpu"), settings)
    source = export_source(run, "large")
    assert (source.bounds is not None) == (file_format == "scn")
    numbers = slide_numbers(source, 0.5).classes["tumour"]
    assert numbers.area_mm2 == pytest.approx(52 * PATCH_MM2, rel=0.05)
    found = cohort_figures(evaluate_cohort(run, TruthSettings(cohort / "truth")))
    of = {section.name: section for section in found.sections}
    assert of["slides"].measures["auroc"].value == 1
    assert of["patches"].measures["auroc"].value == 1
    assert of["lesions"].measures["froc score"].value == 1
    assert of["lesions"].numbers["false positives"] == 0
    if overlap == 0:
        assert of["pixels"].measures["dice at 0.5"].value == 1


def test_truth_and_tables_say_what_was_laid_out(shared_dir: Path, tmp_path: Path) -> None:
    main([str(tmp_path / "c"), "--slides", "2", "--data", str(shared_dir / "data" / "pcam" / "valid.zip")])
    with (tmp_path / "c" / "truth" / "labels.csv").open() as file:
        labels = {row["sample_id"]: row for row in csv.DictReader(file)}
    assert len(labels) == 2
    for name, row in labels.items():
        truth = json.loads((tmp_path / "c" / "truth" / f"{name}.geojson").read_text())
        areas = [feature["properties"]["measurements"]["area_mm2"] for feature in truth["features"]]
        assert len(areas) == int(row["foci"])
        assert sum(areas) == pytest.approx(float(row["tumour_mm2"]), abs=1e-3)
        assert row["label"] == ("tumour" if areas else "normal")
    assert "synthetic layout" in (tmp_path / "c" / "README.txt").read_text()
    assert [slide.path.is_file() for slide in read_manifest(tmp_path / "c" / "manifest.csv")] == [True] * 2
