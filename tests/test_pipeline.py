"""One slide from file to folder: what was planted is found where it lies, and nothing half-done is left."""

from __future__ import annotations

import csv
import json
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from tests.make_leica import write_scn
from tests.make_models import MARKER_RGB, colour_network, model_card
from tests.make_slides import tissue_image, write_ome_tiff, write_sparse_svs, write_svs
from tests.result_bytes import result_bytes
from wsi_cam import RunSettings, explain_slide, open_slide, pipeline
from wsi_cam.classifiers.bundle import Classifier
from wsi_cam.classifiers.card import ModelCard
from wsi_cam.errors import SettingsError, SlideError, TissueError
from wsi_cam.export.png import write_png
from wsi_cam.geometry import Box, Heatmap, Level0, Mpp
from wsi_cam.heatmap.store import HeatmapStore
from wsi_cam.slides.slide import Slide, SlideInfo

Image = NDArray[np.uint8]
CARD = model_card(patch_size_px=128, mpp_um=1.0, evidence_scale=(5.0, 5.0))


def classifier(card: ModelCard = CARD) -> Classifier:
    return Classifier(colour_network(card=card), card, "cpu")


class AlteredSlide:
    """A slide that behaves like another but for what a subclass changes."""

    def __init__(self, slide: Slide) -> None:
        self.slide = slide

    @property
    def info(self) -> SlideInfo:
        return self.slide.info

    def read_region(self, level: int, box: tuple[int, int, int, int]) -> Image:
        return self.slide.read_region(level, box)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.slide.close()


def planted(width: int, height: int, box: tuple[int, int, int, int]) -> Image:
    """Tissue everywhere, a square of the marker's colour at ``box`` (x, y, width, height)."""
    image = tissue_image(height, width, [(0, 0, width, height)])
    x, y, w, h = box
    image[y : y + h, x : x + w] = MARKER_RGB
    return image


def found_box(store: HeatmapStore) -> Box[Level0]:
    """Where the evidence for the marked class is above half of its full value, in level-0 pixels."""
    marked = store.read(0)[1] > 5.0
    rows, columns = np.flatnonzero(marked.any(axis=1)), np.flatnonzero(marked.any(axis=0))
    box: Box[Heatmap] = Box(columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0])
    return store.to_level0.box(box)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75])
@pytest.mark.parametrize(
    "slide_mpp", [Mpp(1.0, 1.0), Mpp(0.5, 0.5), Mpp(0.26, 0.26), Mpp(0.37, 0.37), Mpp(0.5, 0.4)], ids=str
)
def test_a_planted_square_is_found_within_a_heatmap_pixel(
    tmp_path: Path, slide_mpp: Mpp, overlap: float
) -> None:
    # 1 100 x 900 um of tissue with a marked square of 300 x 250 um at (430, 310) um.
    width, height = round(1100 / slide_mpp.x), round(900 / slide_mpp.y)
    truth = tuple(
        round(um / mpp) for um, mpp in zip((430, 310, 300, 250), (slide_mpp.x, slide_mpp.y) * 2, strict=True)
    )
    path = write_ome_tiff(tmp_path / "slide.ome.tif", planted(width, height, truth), slide_mpp)  # type: ignore[arg-type]
    result = explain_slide(path, tmp_path / "out", classifier(), RunSettings(overlap=overlap))
    found, pixel = found_box(result.evidence), result.evidence.to_level0
    x, y, w, h = truth
    assert found.x == pytest.approx(x, abs=pixel.scale_x)
    assert found.y == pytest.approx(y, abs=pixel.scale_y)
    assert found.right == pytest.approx(x + w, abs=pixel.scale_x)
    assert found.bottom == pytest.approx(y + h, abs=pixel.scale_y)
    recorded = json.loads((result.folder / "slide.json").read_text())["settings"]["effective"]
    assert recorded["level"] == {1.0: 0, 0.5: 1, 0.26: 2, 0.37: 1}[slide_mpp.x]


def test_a_square_is_found_on_another_grid_too(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "slide.svs", planted(1800, 1500, (700, 500, 600, 520)), mpp=0.5)
    result = explain_slide(path, tmp_path / "out", classifier(), RunSettings(heatmap_mpp=25.0))
    assert result.evidence.pixel_mpp.x == pytest.approx(25.0)
    found = found_box(result.evidence)
    # One cell of the lattice is 64 level-0 pixels, one pixel of the other grid 50.
    for value, truth in ((found.x, 700), (found.y, 500), (found.right, 1300), (found.bottom, 1020)):
        assert value == pytest.approx(truth, abs=64)


def test_bounds_shift_what_qupath_gets_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_svs(tmp_path / "slide.svs", planted(1800, 1500, (700, 500, 600, 520)), mpp=0.5)
    plain = explain_slide(path, tmp_path / "plain", classifier())

    class Bounded(AlteredSlide):
        @property
        def info(self) -> SlideInfo:
            return replace(self.slide.info, bounds=Box(100, 60, 1600, 1400))

    monkeypatch.setattr(pipeline, "open_slide", lambda *a, **k: Bounded(open_slide(*a, **k)))
    bounded = explain_slide(path, tmp_path / "bounded", classifier())
    np.testing.assert_array_equal(plain.evidence.read(0), bounded.evidence.read(0))
    assert (plain.folder / "patches.csv").read_bytes() == (bounded.folder / "patches.csv").read_bytes()
    first, second = (
        np.array([
            feature["geometry"]["coordinates"][0]
            for feature in json.loads((r.folder / "qupath" / "patches.geojson").read_text())["features"]
        ])
        for r in (plain, bounded)
    )  # fmt: skip
    np.testing.assert_allclose(first - second, np.broadcast_to([100, 60], first.shape))


@pytest.mark.parametrize("slide_mpp", [Mpp(0.5, 0.5), Mpp(0.37, 0.4)], ids=str)
@pytest.mark.parametrize("bounds", [None, Box[Level0](100, 60, 1500, 1300)], ids=["whole", "bounds"])
def test_the_region_in_qupath_is_the_planted_square_to_within_a_patch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slide_mpp: Mpp, bounds: Box[Level0] | None
) -> None:
    class Bounded(AlteredSlide):
        @property
        def info(self) -> SlideInfo:
            return replace(self.slide.info, bounds=bounds)

    x, y, width, height = truth = (500, 400, 760, 620)
    path = write_ome_tiff(tmp_path / "slide.ome.tif", planted(1800, 1500, truth), slide_mpp)
    monkeypatch.setattr(pipeline, "open_slide", lambda *a, **k: Bounded(open_slide(*a, **k)))
    result = explain_slide(path, tmp_path / "out", classifier(), RunSettings(overlap=0.5))
    regions = json.loads((result.folder / "qupath" / "regions.geojson").read_text())["features"]
    assert len(regions) == 1
    corners = np.array(regions[0]["geometry"]["coordinates"][0])
    shift = np.array([bounds.x, bounds.y]) if bounds else np.zeros(2)
    patch = np.array([128 / slide_mpp.x, 128 / slide_mpp.y])
    assert (abs(corners.min(axis=0) + shift - [x, y]) < patch).all()
    assert (abs(corners.max(axis=0) + shift - [x + width, y + height]) < patch).all()
    area_mm2 = regions[0]["properties"]["measurements"]["area_mm2"]
    truth_mm2 = width * slide_mpp.x * height * slide_mpp.y * 1e-6
    # Probability is that of whole patches: half a patch more or less on every side.
    assert 0.5 * truth_mm2 < area_mm2 < 1.6 * truth_mm2


def test_the_folder_holds_what_the_readme_promises(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "case 7.svs", planted(1100, 900, (300, 300, 400, 400)), mpp=0.5)
    seen: list[tuple[int, int]] = []
    result = explain_slide(
        path, tmp_path / "out", classifier(), progress=lambda done, n: seen.append((done, n))
    )
    assert result.folder == tmp_path / "out" / "slides" / "case_7"
    names = {p.name for p in result.folder.iterdir()}
    assert names == {
        "slide.json", "timing.json", "patches.csv", "probability.ome.zarr", "evidence.ome.zarr", "tissue.png",
        "overview.png", "patches", "qupath", "heatmap.ome.tif",
    }  # fmt: skip
    assert seen[0] == (0, result.n_patches)
    assert seen[-1] == (result.n_patches, result.n_patches)
    with (result.folder / "patches.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == result.n_patches
    assert list(rows[0])[:6] == ["minx", "miny", "width", "height", "prob_normal", "prob_tumour"]
    assert len(list((result.folder / "patches").glob("*.png"))) == 2 * 3
    ten_highest = sorted((float(row["prob_tumour"]) for row in rows), reverse=True)[:10]
    assert result.score == pytest.approx(np.mean(ten_highest), abs=1e-4)


def test_completeness_holds_for_every_patch(tmp_path: Path) -> None:
    # The mean evidence of a patch is its logit, and the logits give its probability.
    path = write_svs(tmp_path / "slide.svs", planted(1100, 900, (300, 300, 400, 400)), mpp=0.5)
    model = classifier()
    result = explain_slide(path, tmp_path / "out", model)
    with (result.folder / "patches.csv").open() as file:
        rows = list(csv.DictReader(file))
    bias = model.network.fc.bias.detach().numpy()  # type: ignore[union-attr, operator]
    logits = (
        np.array([[float(row[f"evidence_mean_{name}"]) for name in CARD.class_names] for row in rows]) + bias
    )
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    probabilities = np.array([[float(row[f"prob_{name}"]) for name in CARD.class_names] for row in rows])
    np.testing.assert_allclose(softmax, probabilities, atol=2e-4)


def test_equal_work_gives_equal_bytes_whatever_the_number_of_readers(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "slide.svs", planted(1900, 1500, (700, 500, 600, 520)), mpp=0.5)
    one = explain_slide(path, tmp_path / "one", classifier(), RunSettings(num_workers=0, overlap=0.5))
    two = explain_slide(path, tmp_path / "two", classifier(), RunSettings(num_workers=3, overlap=0.5))
    assert result_bytes(one.folder) == result_bytes(two.folder)


def test_unreadable_patches_are_nan_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_svs(tmp_path / "slide.svs", planted(1900, 1500, (700, 500, 600, 520)), mpp=0.5, levels=(1,))

    class Damaged(AlteredSlide):
        """The square (520, 520) to (600, 600) cannot be read, once the thumbnail has been."""

        def read_region(self, level: int, box: tuple[int, int, int, int]) -> Image:
            x, y, width, height = box
            reading_patches = threading.current_thread().name.startswith("wsi_cam-read")
            if reading_patches and x < 600 and y < 600 and x + width > 520 and y + height > 520:
                raise SlideError(f"{self.info.path}: a tile is damaged")
            return super().read_region(level, box)

    monkeypatch.setattr(pipeline, "open_slide", lambda *a, **k: Damaged(open_slide(*a, **k)))
    result = explain_slide(path, tmp_path / "out", classifier())
    assert result.n_unread == 1
    # The patch on it begins at 512, 512: its 4 x 4 cells are those from 8 to 12.
    evidence = result.evidence.read(0)[1]
    assert np.isnan(evidence[8:12, 8:12]).all()
    assert np.isnan(evidence).sum() >= 16
    assert np.isfinite(evidence[0:8, 0:8]).all()
    record = json.loads((result.folder / "slide.json").read_text())
    assert record["patches"]["unread"] == 1
    with (result.folder / "patches.csv").open() as file:
        unread = [row for row in csv.DictReader(file) if row["status"] == "unread"]
    assert [(row["minx"], row["miny"], row["prob_tumour"]) for row in unread] == [("512", "512", "")]


def test_one_damaged_tile_costs_its_patches_and_not_the_slide(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "slide.svs", planted(1900, 1500, (700, 500, 600, 520)), mpp=0.5, levels=(1,))
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        offset, count = page.dataoffsets[9], page.databytecounts[9]  # the second row's second tile
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(count))
    result = explain_slide(path, tmp_path / "out", classifier(), RunSettings(max_unread=0.2))
    assert 1 <= result.n_unread <= 9
    assert result.n_patches == 48
    record = json.loads((result.folder / "slide.json").read_text())
    assert len(record["patches"]["unread_reasons"]) >= 1


def test_a_format_that_cannot_be_made_costs_no_result(tmp_path: Path) -> None:
    # HDF5 coordinates know one spacing only; this slide has two.
    pytest.importorskip("h5py", reason="h5py is not installed")
    path = write_ome_tiff(tmp_path / "slide.ome.tif", planted(1100, 900, (300, 300, 400, 400)), Mpp(0.5, 0.4))
    result = explain_slide(path, tmp_path / "out", classifier(), RunSettings(export=("h5", "csv")))
    record = json.loads((result.folder / "slide.json").read_text())
    assert list(record["export_failures"]) == ["h5"]
    assert (result.folder / "patches.csv").is_file()


def test_a_slide_without_tissue_fails_with_its_picture(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "glass.svs", tissue_image(900, 900, []), mpp=0.5)
    with pytest.raises(TissueError, match=r"glass\.svs"):
        explain_slide(path, tmp_path / "out", classifier())
    assert (tmp_path / "out" / "failed" / "glass.tissue.png").is_file()
    assert list((tmp_path / "out" / "slides").iterdir()) == []


def test_a_class_the_model_does_not_know_is_refused(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "slide.svs", planted(900, 900, (0, 0, 10, 10)), mpp=0.5)
    with pytest.raises(SettingsError, match="normal, tumour"):
        explain_slide(path, tmp_path / "out", classifier(), RunSettings(target_class="lung"))


def test_only_the_given_region_is_looked_at(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_svs(tmp_path / "slide.svs", planted(1900, 1500, (0, 0, 10, 10)), mpp=0.5)
    ring = [[512, 256], [1024, 256], [1024, 768], [512, 768], [512, 256]]
    roi = tmp_path / "roi.geojson"
    roi.write_text(
        json.dumps(
            {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}}
        )
    )
    result = explain_slide(path, tmp_path / "out", classifier(), RunSettings(tissue=roi, min_tissue=0.5))
    covered = np.isfinite(result.probability.read(0)[0])
    assert covered.sum() == 8 * 8
    assert covered[4:12, 8:16].all()
    assert "level 0" not in caplog.text

    mask = np.zeros((1500 // 4, 1900 // 4), np.uint8)
    mask[64:192, 128:256] = 1
    write_png(tmp_path / "mask.png", mask)
    settings = RunSettings(tissue=tmp_path / "mask.png", min_tissue=0.5)
    result = explain_slide(path, tmp_path / "out", classifier(), settings)
    np.testing.assert_array_equal(np.isfinite(result.probability.read(0)[0]), covered)

    path = write_scn(tmp_path / "bounds.scn", planted(1900, 1500, (0, 0, 10, 10)), corner=(256, 128))
    result = explain_slide(path, tmp_path / "out", classifier(), RunSettings(tissue=roi, min_tissue=0.5))
    assert np.isfinite(result.probability.read(0)[0])[4:12, 8:16].all()
    assert "roi.geojson: its coordinates are taken from the corner of level 0" in caplog.text
    assert "counts from 256, 128" in caplog.text


def test_a_slide_of_320_000_pixels_a_side_with_little_tissue_works(tmp_path: Path) -> None:
    boxes = [(160_000, 200_000, 1500, 1200), (300_000, 8_000, 800, 900)]
    path = write_sparse_svs(tmp_path / "huge.svs", 320_000, boxes, mpp=0.5)
    tracemalloc.start()
    try:
        result = explain_slide(path, tmp_path / "out", classifier(), RunSettings(top_patches=1))
        peak_mib = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    # The glass between the two pieces, 3 000 rows of 5 000 pixels in two layers, is nowhere held in memory.
    assert peak_mib < 450
    assert result.probability.size.width == 5000
    x, y, w, h = (v // 64 for v in boxes[0])
    assert np.isfinite(result.probability.read(0, (x + 1, y + 1, w - 2, h - 2))).all()
    assert result.n_patches < 200
