"""A synthetic layout of real tissue: slides made of PatchCamelyon patches, with a known tumour map.

Patches of PatchCamelyon's reporting half (see scripts/default_overlap.py) lie side by side on a grid of
96 px at the model's 0.972 um/px, in oval sections on glass. Connected groups of tumour patches are the foci.

What such slides are not: neighbours are unrelated tissue, so every 96 px there is a seam; a label holds for
the central 32 px of its patch only, while the outlines in the truth run around whole patches; and some 1 500
pictures serve all slides, each many times, so slides are not independent and intervals over slides say less
than they seem to. A run with ``--overlap 0`` puts its patches exactly on those of the layout and sees no
seam; any other overlap sees patches across seams, which no real slide has.

OUT/slides/ID.svs (or .scn), OUT/truth/ID.geojson (without features where there is no tumour),
OUT/truth/labels.csv, OUT/manifest.csv for ``wsi-cam run``, OUT/layout.csv (which picture lies where),
OUT/README.txt.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from scripts.default_overlap import MPP_UM, PATCH_PX, reporting_half
from tests.make_leica import write_scn
from tests.make_models import MARKER_RGB
from tests.make_slides import tissue_image, write_svs

NORMAL, TUMOUR = 0, 1
GLASS = -1
#: Cells of glass around the tissue.
MARGIN = 2
#: Patches of tissue on a slide.
TISSUE_PATCHES = (360, 720)
#: Share of the slides without tumour, and the greatest share of a slide's tissue that is tumour.
WITHOUT_TUMOUR, GREATEST_SHARE = 0.4, 0.1
#: Sizes of foci in patches. One patch is an isolated group of cells, 25 of them measure 0.5 mm across.
FOCUS_SIZES = (1, 1, 2, 4, 9, 16, 25)
#: Cells between two foci, so that they stay two lesions when outlines are grown by 37.5 um.
GAP = 2
#: Where an SCN's scanned part begins in level 0, x and y; on the grid of patches.
SCN_CORNER = (3 * PATCH_PX, 2 * PATCH_PX)
PATCH_MM2 = (PATCH_PX * MPP_UM / 1000) ** 2


@dataclass(frozen=True, eq=False)
class Layout:
    """Where what lies on a slide, in cells of 96 px: ``foci`` (rows, columns) numbers them from 1."""

    sample_id: str
    kind: NDArray[np.int8]
    """(rows, columns): GLASS, NORMAL or TUMOUR."""
    foci: NDArray[np.int64]

    @property
    def label(self) -> str:
        return "tumour" if (self.kind == TUMOUR).any() else "normal"

    @property
    def numbers(self) -> dict[str, Any]:
        """Counts of patches and foci, and the area that the outlines of the truth enclose."""
        tissue, tumour = int((self.kind != GLASS).sum()), int((self.kind == TUMOUR).sum())
        return {
            "tissue_patches": tissue,
            "tumour_patches": tumour,
            "foci": int(self.foci.max()),
            "tumour_share": round(tumour / tissue, 5),
            "tumour_mm2": round(tumour * PATCH_MM2, 5),
        }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="a new folder")
    parser.add_argument("--slides", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/pcam/valid.zip"))
    parser.add_argument(
        "--format", choices=("svs", "scn"), default="svs",
        help="scn: Leica slides, whose level 0 is larger than what was scanned and says so (bounds)",
    )  # fmt: skip
    parser.add_argument(
        "--marked", action="store_true",
        help="tumour patches in one strong colour, for a stand-in of the model that knows the truth",
    )  # fmt: skip
    args = parser.parse_args(arguments)
    if args.out.exists() and any(args.out.iterdir()):
        parser.error(f"{args.out}: holds files already; give a new folder")
    pictures = reporting_half(args.data)
    layouts = plan_cohort(args.slides, args.seed)
    write_cohort(args.out, layouts, pictures, args.seed, args.format, args.marked)
    total = sum(layout.numbers["tissue_patches"] for layout in layouts)
    print(f"{len(layouts)} slides of {total} patches in {args.out}; see {args.out / 'README.txt'}")


def plan_cohort(slides: int, seed: int) -> list[Layout]:
    """Layouts whose tumour goes from one patch to a tenth of the tissue, spread evenly in its logarithm.

    Slides without tumour stand between the others. Equal arguments give equal layouts.
    """
    generator = np.random.default_rng(seed)
    with_tumour = slides - round(slides * WITHOUT_TUMOUR)
    relative = np.linspace(0, 1, with_tumour) if with_tumour > 1 else np.ones(with_tumour)
    places = set(np.linspace(0, slides - 1, with_tumour).round().astype(int).tolist())
    budgets = iter(relative.tolist())
    layouts = []
    for number in range(slides):
        wanted = next(budgets) if number in places else None
        # The richest slides are large ones, so that a tenth of them is a good many patches.
        low, high = TISSUE_PATCHES
        n_tissue = int(generator.integers(low, high) if wanted is None or wanted < 0.8 else high)
        tumour = 0 if wanted is None else round((n_tissue * GREATEST_SHARE) ** wanted)
        layouts.append(plan_slide(f"layout_{number + 1:03}", n_tissue, tumour, generator))
    return layouts


def plan_slide(sample_id: str, n_tissue: int, n_tumour: int, generator: np.random.Generator) -> Layout:
    """One or two oval sections of about ``n_tissue`` patches, with foci of ``n_tumour`` in all."""
    sections = int(generator.integers(1, 3))
    parts = []
    for _ in range(sections):
        aspect = generator.uniform(0.7, 1.4)
        radius = np.sqrt(n_tissue / sections / np.pi)
        half_height, half_width = radius * np.sqrt(aspect), radius / np.sqrt(aspect)
        rows, columns = (int(np.ceil(2 * half)) for half in (half_height, half_width))
        y, x = np.mgrid[:rows, :columns] + 0.5
        parts.append(((y - rows / 2) / half_height) ** 2 + ((x - columns / 2) / half_width) ** 2 <= 1)
    height = max(part.shape[0] for part in parts)
    padded = [np.pad(p, ((MARGIN, MARGIN + height - p.shape[0]), (MARGIN, 0))) for p in parts]
    tissue = np.pad(np.concatenate(padded, axis=1), ((0, 0), (0, MARGIN)))
    foci = grow_foci(tissue, n_tumour, generator)
    kind = np.where(foci > 0, TUMOUR, np.where(tissue, NORMAL, GLASS)).astype(np.int8)
    return Layout(sample_id, kind, foci)


def grow_foci(tissue: NDArray[np.bool_], n_tumour: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Connected groups of cells inside the tissue, ``n_tumour`` in all, numbered from 1, 0 elsewhere.

    Each group has the size drawn from FOCUS_SIZES, or what is left; groups keep GAP cells apart.
    """
    foci = np.zeros(tissue.shape, np.int64)
    left = n_tumour
    while left > 0:
        near = ndimage.binary_dilation(foci > 0, np.ones((3, 3)), iterations=GAP) if foci.any() else foci > 0
        free = tissue & ~near
        if not free.any():
            raise ValueError(f"no room for {left} more tumour patches of {n_tumour}")
        size = min(left, int(generator.choice(FOCUS_SIZES)))
        focus = np.zeros_like(tissue)
        focus.flat[generator.choice(np.flatnonzero(free))] = True
        while focus.sum() < size:
            border = ndimage.binary_dilation(focus) & ~focus & free
            if not border.any():
                break
            # A cell that touches more of the focus is likelier, which keeps foci round.
            touching = ndimage.convolve(focus.astype(float), np.ones((3, 3)), mode="constant")
            choices = np.flatnonzero(border)
            weights = touching.flat[choices] ** 2
            focus.flat[generator.choice(choices, p=weights / weights.sum())] = True
        foci[focus] = foci.max() + 1
        left -= int(focus.sum())
    return foci


def write_cohort(
    out: Path,
    layouts: Sequence[Layout],
    pictures: list[list[NDArray[np.uint8]]],
    seed: int,
    file_format: str = "svs",
    marked: bool = False,
) -> None:
    """Write slides, truth and tables. ``pictures`` are those of normal tissue and of tumour, 96 x 96 RGB."""
    for folder in ("slides", "truth"):
        (out / folder).mkdir(parents=True)
    generator = np.random.default_rng([seed, 1])
    placed: list[tuple[Any, ...]] = []
    for layout in layouts:
        chosen = choose_pictures(layout, [len(p) for p in pictures], generator)
        image = paint(layout, chosen, pictures, marked)
        write_slide(out / "slides" / f"{layout.sample_id}.{file_format}", image)
        (out / "truth" / f"{layout.sample_id}.geojson").write_text(json.dumps(truth_of(layout)) + "\n")
        for row, column in np.argwhere(layout.kind != GLASS).tolist():
            kind = ("normal", "tumour")[layout.kind[row, column]]
            placed.append((layout.sample_id, column, row, kind, int(chosen[row, column])))
    numbers = [{"sample_id": each.sample_id, "label": each.label, **each.numbers} for each in layouts]
    _write_csv(out / "truth" / "labels.csv", list(numbers[0]), (row.values() for row in numbers))
    _write_csv(out / "layout.csv", ["sample_id", "column", "row", "kind", "picture"], placed)
    manifest = [(each.sample_id, f"slides/{each.sample_id}.{file_format}", each.label) for each in layouts]
    _write_csv(out / "manifest.csv", ["sample_id", "image_path", "label"], manifest)
    (out / "README.txt").write_text(str(__doc__))


def write_slide(path: Path, image: NDArray[np.uint8]) -> None:
    """An SVS, or an SCN in whose level 0 the image begins at ``SCN_CORNER``."""
    if path.suffix == ".scn":
        write_scn(path, image, mpp=MPP_UM, corner=SCN_CORNER, quality=95)
    else:
        write_svs(path, image, mpp=MPP_UM, levels=(1, 4), quality=95, subsampling="444", objective_power=10)


def choose_pictures(
    layout: Layout, supply: Sequence[int], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Index of the picture of its kind in each cell, -1 on glass; none twice on a slide while they last."""
    chosen = np.full(layout.kind.shape, -1, np.int64)
    for kind, available in zip((NORMAL, TUMOUR), supply, strict=True):
        wanted = layout.kind == kind
        rounds = -(-int(wanted.sum()) // available)
        shuffled = [generator.permutation(available) for _ in range(rounds)]
        if shuffled:
            chosen[wanted] = np.concatenate(shuffled)[: wanted.sum()]
    return chosen


def paint(
    layout: Layout, chosen: NDArray[np.int64], pictures: list[list[NDArray[np.uint8]]], marked: bool
) -> NDArray[np.uint8]:
    """The slide's level 0, RGB (rows * 96, columns * 96, 3)."""
    rows, columns = layout.kind.shape
    image = tissue_image(rows * PATCH_PX, columns * PATCH_PX, [])
    for row, column in np.argwhere(layout.kind != GLASS).tolist():
        kind = layout.kind[row, column]
        cell = image[row * PATCH_PX : (row + 1) * PATCH_PX, column * PATCH_PX : (column + 1) * PATCH_PX]
        cell[...] = MARKER_RGB if marked and kind == TUMOUR else pictures[kind][chosen[row, column]]
    return image


def truth_of(layout: Layout) -> dict[str, Any]:
    """GeoJSON as QuPath exports it: one annotation per focus, around whole patches, in pixels as QuPath
    shows the slide: from the corner of its bounds where it has some.
    """
    features = []
    for number in range(1, int(layout.foci.max()) + 1):
        row, column = np.nonzero(layout.foci == number)
        x, y = column * PATCH_PX, row * PATCH_PX
        outline = shapely.union_all(shapely.box(x, y, x + PATCH_PX, y + PATCH_PX))
        features.append(
            {
                "type": "Feature",
                "geometry": json.loads(shapely.to_geojson(outline)),
                "properties": {
                    "objectType": "annotation",
                    "classification": {"name": "tumour", "color": [200, 0, 0]},
                    "measurements": {"patches": len(row), "area_mm2": round(len(row) * PATCH_MM2, 5)},
                },
            }
        )
    return {"type": "FeatureCollection", "features": features}


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
