"""A slide of thirty patches and a network for it that takes no time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.make_models import colour_network, model_card
from tests.make_slides import tissue_image, write_svs
from wsi_cam import RunSettings
from wsi_cam.classifiers.bundle import Classifier
from wsi_cam.inference import PatchExplainer

CARD = model_card(patch_size_px=128, mpp_um=1.0, evidence_scale=(5.0, 5.0))
#: 6 x 5 patches in batches of 4: eight, the last one of two.
SETTINGS = RunSettings(batch_size=4, num_workers=1, export=("csv",), top_patches=1)
N_PATCHES = 30


@pytest.fixture(scope="session")
def explainer() -> PatchExplainer:
    return PatchExplainer(Classifier(colour_network(card=CARD), CARD, "cpu"), batch_size=4)


@pytest.fixture(scope="session")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = tissue_image(1280, 1536, [(0, 0, 1536, 1280)])
    image[400:900, 500:1100] = (160, 0, 160)
    return write_svs(tmp_path_factory.mktemp("slide") / "case.svs", image, mpp=0.5, levels=(1, 4))
