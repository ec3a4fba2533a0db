"""What ``slide.json`` and the heatmaps' attributes say: enough to know and to repeat a result.

No times and no durations: equal work gives equal files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from wsi_cam.settings import RunSettings
from wsi_cam.slide_run.job import SlideJob
from wsi_cam.slide_run.ledger import SCORE_PATCHES, Ledger
from wsi_cam.versions import installed_versions


def provenance(
    job: SlideJob, identity: Mapping[str, Any], origin: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Slide, model, settings asked for and in effect, and versions; ``identity`` is the result's.

    ``origin`` is what to say of the slide in place of the path that it was read from.
    """
    return {
        "slide": {**job.slide.info.as_dict(), **(origin or {}), "identity": identity["slide"]},
        "model": {
            "name": job.card.name,
            "bundle_hash": job.explainer.classifier.bundle_hash,
            "class_names": list(job.class_names),
            "patch_size_px": job.card.patch_size_px,
            "mpp_um": job.card.mpp_um,
            "temperature": job.card.temperature,
            "label_region_px": job.card.label_region_px,
            "evidence_scale": list(job.evidence_scales),
            # The card's scale was measured on the last layer.
            "evidence_scale_source": "card, layer4" if job.card.evidence_scale else "default",
        },
        "settings": {"requested": requested(job.settings), "effective": _effective(job)},
        "versions": installed_versions(),
        "research_use": job.card.research_use,
    }


def requested(settings: RunSettings) -> dict[str, Any]:
    """What was asked for, but for what cannot change a result."""
    return {name: value for name, value in settings.as_dict().items() if name != "num_workers"}


def _effective(job: SlideJob) -> dict[str, Any]:
    plan = job.plan
    return {
        "mpp_um": [job.mpp.x, job.mpp.y],
        "level": plan.level,
        "level_to_model_resize": list(plan.resize_factors),
        "overlap": plan.effective_overlap,
        "stride_px": plan.stride_cells * plan.cell_px,
        "cell_px": plan.cell_px,
        "min_tissue": plan.min_tissue,
        "tissue_source": job.tissue.source,
        "target_class": job.target_class,
        "target_layer": job.explainer.target_layer,
        "method": job.explainer.method,
        "exact_from_forward_pass": job.explainer.closed_form,
        "batch_size": job.explainer.batch_size,
        "device": job.explainer.classifier.device.type,
        "threads": torch.get_num_threads(),
        "reader": job.slide.info.reader,
    }


def slide_record(job: SlideJob, ledger: Ledger, common: dict[str, Any]) -> dict[str, Any]:
    """The content of ``slide.json``."""
    scores = {name: ledger.score(c) for c, name in enumerate(job.class_names)}
    return {
        "sample_id": job.sample_id,
        "score": {
            "class": job.target_class,
            "value": scores[job.target_class],
            "rule": f"mean of the {SCORE_PATCHES} highest patch probabilities (of all, where fewer)",
            "of_each_class": scores,
        },
        "patches": {
            "planned": len(job.plan),
            "unread": ledger.n_unread,
            "unread_reasons": ledger.unread_reasons,
        },
        "export_failures": {},
        "tissue_mm2": job.tissue.area_mm2(job.mpp),
        **common,
    }
