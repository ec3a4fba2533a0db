"""Everything that can be written of a finished slide, by the name of its format.

A new format is one new module with a function that writes a file, one function and one line here, its name
in ``formats.py``, and one subclass of the contract in ``tests/export/exporter_contract.py``.

There is no DICOM: a heatmap over a DICOM slide would be a Parametric Map or a Segmentation on the slide's
coordinate system, and highdicom can write both, but of the readers that this package is checked
with (Bio-Formats, OpenSlide, QuPath, viv, napari) none shows either over a slide. A file that nobody here can
look at may lie a cell off or upside down without anybody knowing, so it is not offered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wsi_cam.errors import OutputError, SettingsError
from wsi_cam.export.asap import write_asap_xml
from wsi_cam.export.coordinates_h5 import write_coordinates_h5
from wsi_cam.export.ome_tiff import write_heatmap_ome_tiff
from wsi_cam.export.overlay_tiff import write_overlay_ome_tiff
from wsi_cam.export.overview import overview
from wsi_cam.export.parquet import write_patches_parquet
from wsi_cam.export.png import write_png
from wsi_cam.export.qupath import write_patches_geojson, write_regions_geojson
from wsi_cam.export.qupath_heatmaps import HeatmapLayer, write_heatmaps
from wsi_cam.export.regions import Region, find_regions
from wsi_cam.export.slide_view import SlideView, read_slide_view
from wsi_cam.export.source import ExportOptions, ExportSource
from wsi_cam.export.tables import write_patches_csv


@dataclass(frozen=True)
class Exporter:
    """One format: who writes it, what it may write into the slide's folder, and whether it draws pixels.

    ``files`` are glob patterns relative to the folder; what is written matches one of them.
    """

    write: Callable[[ExportSource, ExportOptions], list[Path]]
    files: tuple[str, ...]
    needs_slide: bool = False


def export(source: ExportSource, name: str, options: ExportOptions, force: bool = False) -> list[Path]:
    """Write one format of a slide into its folder; gives the files written.

    Raises SettingsError for a format or class that does not exist, OutputError where files are there
    already and ``force`` is not set or they cannot be written, SlideError where pixels are needed and
    the slide cannot be read.
    """
    exporter = EXPORTERS.get(name)
    if exporter is None:
        raise SettingsError(f"format {name!r}: there are {', '.join(EXPORTERS)}")
    present = existing_files(source, name)
    if present and not force:
        raise OutputError(f"{present[0]}: there already; --force writes it anew")
    return exporter.write(source, options)


def existing_files(source: ExportSource, name: str) -> list[Path]:
    """The files in a slide's folder that a format would replace."""
    folder = source.files.path
    return sorted(path for pattern in EXPORTERS[name].files for path in folder.glob(pattern))


def _qupath(source: ExportSource, options: ExportOptions) -> list[Path]:
    patches, folder = source.files.patches_geojson, source.files.patches_geojson.parent
    bounds, origin, colours = source.bounds, options.origin, source.colours
    layers = [
        HeatmapLayer(layer, store, name, scale(name))
        for layer, store, scale in (
            ("probability", source.probability, source.probability_scale),
            ("evidence", source.evidence, source.evidence_scale),
        )
        for name in _asked_for_first(source, options)
    ]
    return [
        write_patches_geojson(patches, source.table, bounds=bounds, origin=origin, colours=colours),
        write_regions_geojson(
            folder / "regions.geojson",
            _regions(source, options),
            source.class_names,
            bounds=bounds,
            origin=origin,
            colours=colours,
        ),
        *write_heatmaps(folder, layers, bounds, origin),
    ]


def _ome_tiff(source: ExportSource, options: ExportOptions) -> list[Path]:
    path, stores = source.files.heatmap_tiff, (source.probability, source.evidence)
    return [write_heatmap_ome_tiff(path, *stores, bounds=source.bounds, origin=options.origin)]


def _overlay(source: ExportSource, options: ExportOptions) -> list[Path]:
    name = source.class_name(options)
    with source.opened() as slide:
        path = write_overlay_ome_tiff(
            source.files.path / "overlay.ome.tif",
            slide,
            source.mpp,
            source.probability,
            name,
            source.probability_scale(name),
            um_per_px=options.mpp,
            origin=options.origin,
        )
    return [path]


def _csv(source: ExportSource, options: ExportOptions) -> list[Path]:
    return [write_patches_csv(source.files.patches_csv, source.table)]


def _parquet(source: ExportSource, options: ExportOptions) -> list[Path]:
    return [write_patches_parquet(source.files.path / "patches.parquet", source.table, source.sample_id)]


def _h5(source: ExportSource, options: ExportOptions) -> list[Path]:
    model_mpp_um = float(source.record["model"]["mpp_um"])
    return [write_coordinates_h5(source.files.path / "coordinates.h5", source.table, model_mpp_um)]


def _asap(source: ExportSource, options: ExportOptions) -> list[Path]:
    path, regions = source.files.path / "regions.asap.xml", _regions(source, options)
    return [write_asap_xml(path, regions, source.class_names, source.colours)]


def _png(source: ExportSource, options: ExportOptions) -> list[Path]:
    name = source.class_name(options)
    score, model = source.record["score"]["of_each_class"][name], source.record["model"]["name"]
    picture = overview(
        _view(source, options, options.width),
        source.probability,
        name,
        source.probability_scale(name),
        title=f"{source.sample_id}: slide score for {name} {score:.3f}",
        note=f"Slide score: {source.record['score']['rule']}. Model {model}. {source.record['research_use']}",
        width=options.width,
    )
    return [write_png(source.files.overview_png, picture)]


def _figure(source: ExportSource, options: ExportOptions) -> list[Path]:
    # Here, because matplotlib's axes take half a second that most runs need not wait for.
    from wsi_cam.export.figure import FigureLayer, write_figure

    name = source.class_name(options)
    probability = FigureLayer(source.probability, name, source.probability_scale(name))
    evidence = FigureLayer(source.evidence, name, source.evidence_scale(name))
    view = _view(source, options, 2048)
    return list(write_figure(source.files.path / "figure.png", view, probability, evidence))


def _regions(source: ExportSource, options: ExportOptions) -> list[Region]:
    name = source.class_name(options)
    stores = source.probability, source.evidence
    return find_regions(*stores, name, options.threshold, options.min_area_mm2)


def _view(source: ExportSource, options: ExportOptions, longest_side: int) -> SlideView:
    if source.picture is not None and options.origin == "qupath":
        return source.picture
    with source.opened() as slide:
        return read_slide_view(slide, source.mpp, options.origin, min(max(longest_side, 1024), 4096))


def _asked_for_first(source: ExportSource, options: ExportOptions) -> list[str]:
    first = source.class_name(options)
    return [first, *(name for name in source.class_names if name != first)]


EXPORTERS: dict[str, Exporter] = {
    "qupath": Exporter(
        _qupath, ("qupath/*.geojson", "qupath/*.geojson.gz", "qupath/heatmaps.json", "qupath/*.png")
    ),
    "ome-tiff": Exporter(_ome_tiff, ("heatmap.ome.tif",)),
    "overlay": Exporter(_overlay, ("overlay.ome.tif",), needs_slide=True),
    "png": Exporter(_png, ("overview.png",), needs_slide=True),
    "figure": Exporter(_figure, ("figure.png", "figure.svg", "figure.pdf"), needs_slide=True),
    "asap": Exporter(_asap, ("regions.asap.xml",)),
    "csv": Exporter(_csv, ("patches.csv",)),
    "parquet": Exporter(_parquet, ("patches.parquet",)),
    "h5": Exporter(_h5, ("coordinates.h5",)),
}
