"""``wsi-cam train``: labelled pictures in, a model bundle out."""

from __future__ import annotations

import argparse
from pathlib import Path

from wsi_cam.cli.card_options import add_card_options, card_facts, names

_DESCRIPTION = """\
Fit a ResNet-50 to labelled patches, calibrate it, measure it, and write it as a bundle for
"wsi-cam run --model BUNDLE". First the head alone is fitted, then all layers.

DATA is one of
  a folder of class folders      tumour/a.png normal/b.png ...      (or a zip of it)
  a CSV  path,label[,group][,split]      split: train, valid (halved into fit and report), fit, report
  a CSV of annotated slides  image_path,annotations[,mpp][,group][,split], annotations as QuPath
         GeoJSON or ASAP XML; patches are cut at --size-px and --mpp

Pictures of one patient, slide or source image look alike. Name that group (--groups, or the column), and
no group is trained on and measured on. The fit part sets temperature and evidence scales, the report part
gives the numbers of the card; no picture is in two parts.

  wsi-cam train patches/ --groups groups.csv -o my_model --size-px 224 --mpp 0.5
  wsi-cam train train.zip --valid valid.zip -o my_model --size-px 96 --mpp 0.972 --init weights.safetensors
"""

_EPILOG = """\
BUNDLE.training/ beside the bundle keeps the checkpoint, split.csv, curves.png and confusion.png. After a
kill the same command with --resume goes on, with the same result as without the kill (on the CPU to the bit).
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "train",
        help="make a model bundle from labelled patches or annotated slides",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", metavar="DATA", type=Path, help="class folders, zip, or CSV")
    add = parser.add_argument
    add("-o", "--output", metavar="BUNDLE", type=Path, required=True, help="bundle folder to write")
    add("--size-px", metavar="N", type=int, default=224, help="side of a patch, model pixels (default 224)")
    add(
        "--mpp",
        metavar="F",
        type=float,
        required=True,
        help="spacing of a model pixel, um; slides are read at it",
    )
    _add_data_options(parser)
    _add_fitting_options(parser)
    parser.set_defaults(run=run)


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data")
    add = group.add_argument
    add(
        "--valid",
        metavar="DATA",
        type=Path,
        help="train on all of DATA; fit and report on halves of this one",
    )
    add("--groups", metavar="CSV", type=Path, help="path,group: what each picture was taken from")
    add("--class-names", metavar="A,B", type=names, help="classes in this order (default: sorted)")
    add("--fit-share", metavar="F", type=float, default=0.15, help="of DATA without --valid (default 0.15)")
    add("--report-share", metavar="F", type=float, default=0.15, help="likewise (default 0.15)")
    add(
        "--max-patches",
        metavar="N",
        type=int,
        default=0,
        help="of each class and slide (default: all)",
    )
    add_card_options(group, "the bundle's")


def _add_fitting_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("fitting (the defaults made the bundled model)")
    add = group.add_argument
    add("--init", metavar="WHAT", default="imagenet",
        help="imagenet (torchvision's, downloaded; the default), a ResNet-50 state dict, a bundle, "
        "or random")  # fmt: skip
    add(
        "--stride-in",
        choices=("conv1", "conv2"),
        help="stride variant of an --init file that does not say it",
    )
    add("--epochs-head", metavar="F", type=float, help="epochs of the head alone (default: 80 steps)")
    add("--epochs", metavar="F", type=float, default=4.0, help="epochs of all layers (default 4)")
    add("--batch-size", metavar="N", type=int, default=50, help="pictures per step (default 50)")
    add(
        "--trunk-rate",
        metavar="F",
        type=float,
        default=2e-4,
        help="peak learning rate of the trunk (default 2e-4)",
    )
    add("--head-rate", metavar="F", type=float, default=1e-3, help="and of the head (default 1e-3)")
    add("--class-weights", choices=("balanced", "none"), default="balanced",
        help="balanced (default): rare classes count as much as frequent ones")  # fmt: skip
    add("--patience", metavar="N", type=int, default=0,
        help="stop after N epochs without gain on the fit part, keep the best (default 0: off)")  # fmt: skip
    add("--seed", metavar="N", type=int, default=0, help="of head, order, augmentation and split (default 0)")
    add("--device", metavar="NAME", default="auto", help="auto (default), cuda, cuda:1, mps or cpu")
    add("--num-workers", metavar="N", type=int, help="processes that augment (default: by device)")
    add("--resume", action="store_true", help="go on from the checkpoint, if there is one")
    add("--checkpoint", metavar="FILE", type=Path, help="default: BUNDLE.training/checkpoint.pt")
    add("--force", action="store_true", help="replace a bundle that exists")
    add("-q", "--quiet", action="store_true", help="print errors and warnings only")


def run(args: argparse.Namespace) -> int:
    """Exit status 0."""
    from wsi_cam.classifiers.device import choose_device
    from wsi_cam.cli.evaluate import table_of
    from wsi_cam.cli.stage_progress import StageProgress
    from wsi_cam.training.recipe import Recipe
    from wsi_cam.training.train_classifier import TrainingRequest, train_classifier

    request = TrainingRequest(
        data=args.data,
        bundle=args.output,
        size_px=args.size_px,
        mpp_um=args.mpp,
        valid=args.valid,
        groups=args.groups,
        class_names=args.class_names,
        init=args.init,
        stride_in=args.stride_in,
        recipe=Recipe(
            epochs=args.epochs,
            epochs_head=args.epochs_head,
            batch_size=args.batch_size,
            trunk_rate=args.trunk_rate,
            head_rate=args.head_rate,
            class_weights=args.class_weights,
            patience=args.patience,
            seed=args.seed,
        ),
        max_patches=args.max_patches,
        shares=(1 - args.fit_share - args.report_share, args.fit_share, args.report_share),
        device=args.device,
        num_workers=_workers(args.num_workers, choose_device(args.device).type),
        resume=args.resume,
        checkpoint=args.checkpoint,
        replace_existing=args.force,
        facts=card_facts(args),
    )
    with StageProgress(args.quiet) as progress:
        metrics = train_classifier(request, progress)
    if not args.quiet:
        print(table_of(metrics, "the report part, unseen until now"))
        print(f"bundle in {args.output}, curves and confusion matrix in {request.notes_folder}")
    return 0


def _workers(given: int | None, device_type: str) -> int:
    """On a CPU the network needs the cores itself."""
    import os

    if given is not None:
        return given
    return min(8, max(1, (os.cpu_count() or 2) - 1)) if device_type == "cuda" else 0
