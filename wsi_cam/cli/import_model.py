"""``wsi-cam import-model``: weights that somebody else trained, as a bundle."""

from __future__ import annotations

import argparse
from pathlib import Path

from wsi_cam.cli.card_options import add_card_options, card_facts, names

_DESCRIPTION = """\
Turn a ResNet-50 state dict (.pth, .pt, .ckpt, .safetensors) into a bundle. Plain torchvision and timm keys,
"module." prefixes, Lightning checkpoints and one-logit sigmoid heads (which become two classes) are
understood. Only tensors are read: nothing inside the file is run.

A state dict does not say at which spacing it was trained, in which order its classes are, nor its stride
variant: conv2 for torchvision and timm, conv1 for Caffe and Keras. A wrong variant gives wrong answers
without an error, so check with labelled pictures: --fit-on fits temperature and evidence scales on one
half of them and puts what it measures on the other into the card.

  wsi-cam import-model best.pth -o my_model --class-names normal,tumour --size-px 224 --mpp 0.5
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "import-model",
        help="make a bundle from a ResNet-50 state dict",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("file", metavar="FILE", type=Path)
    add("-o", "--output", metavar="BUNDLE", type=Path, required=True, help="bundle folder to write")
    add("--class-names", metavar="A,B", type=names, required=True,
        help="in the order of the network's outputs; for one sigmoid output: negative,positive")  # fmt: skip
    add("--size-px", metavar="N", type=int, required=True, help="side of a patch, model pixels")
    add("--mpp", metavar="F", type=float, required=True, help="spacing of a model pixel, um")
    add(
        "--stride-in",
        choices=("conv1", "conv2"),
        help="stride variant (default: what the file says, else conv2)",
    )
    add(
        "--mean",
        metavar="R,G,B",
        type=three_numbers,
        default=(0.485, 0.456, 0.406),
        help="default: ImageNet's",
    )
    add(
        "--std",
        metavar="R,G,B",
        type=three_numbers,
        default=(0.229, 0.224, 0.225),
        help="default: ImageNet's",
    )
    add_card_options(parser, "the file's")
    add("--fit-on", metavar="DATA", type=Path, help="labelled pictures: class folders, zip or CSV")
    add("--groups", metavar="CSV", type=Path, help="path,group of the --fit-on pictures")
    add("--device", metavar="NAME", default="auto", help="auto (default), cuda, mps or cpu")
    add("--force", action="store_true", help="replace a bundle that exists")
    parser.set_defaults(run=run)


def three_numbers(text: str) -> tuple[float, float, float]:
    red, green, blue = (float(number) for number in text.split(","))
    return red, green, blue


def run(args: argparse.Namespace) -> int:
    """Exit status 0."""
    from wsi_cam.cli.evaluate import table_of
    from wsi_cam.cli.stage_progress import StageProgress
    from wsi_cam.training.importing import ImportRequest, import_model

    request = ImportRequest(
        file=args.file,
        bundle=args.output,
        class_names=args.class_names,
        size_px=args.size_px,
        mpp_um=args.mpp,
        stride_in=args.stride_in,
        mean=args.mean,
        std=args.std,
        fit_on=args.fit_on,
        groups=args.groups,
        device=args.device,
        replace_existing=args.force,
        facts=card_facts(args),
    )
    with StageProgress() as progress:
        metrics = import_model(request, progress)
    if metrics is None:
        print("no --fit-on given: temperature 1, no evidence scales, nothing measured")
    else:
        print(table_of(metrics, "the half that nothing was fitted on"))
    print(f"bundle in {args.output}")
    return 0
