"""Names of the formats and what they are for; light, so that the command line can ask."""

from __future__ import annotations

FORMATS = {
    "qupath": "patches and regions as GeoJSON, heatmaps to lay over the slide, a project of the run",
    "ome-tiff": "the heatmap as numbers, a channel per class and layer",
    "overlay": "slide and heatmap blended, RGB OME-TIFF",
    "png": "overview with legend and scale bar",
    "figure": "slide, probability, evidence and overlay for a paper: PNG, SVG and PDF",
    "asap": "regions as annotations of ASAP",
    "csv": "table of patches",
    "parquet": "table of patches for data frames (needs pyarrow)",
    "h5": "coordinates of patches as CLAM and WSInfer keep them (needs h5py)",
}
