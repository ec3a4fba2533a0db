"""The published weights are taken for what they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from wsi_cam.errors import SettingsError
from wsi_cam.training.initial import initial_network


def test_the_shared_weights_say_their_stride_themselves(shared_dir: Path) -> None:
    file = shared_dir / "data" / "weights" / "resnet50_imagenet.safetensors"
    ours = initial_network(str(file), ("a", "b"), seed=0)
    assert ours.stride_in == "conv1"
    theirs = load_file(file)
    for name, value in ours.network.state_dict().items():
        if not name.startswith("fc."):
            assert torch.equal(value, theirs[name].to(value.dtype)), name
    with pytest.raises(SettingsError, match="its stride is in conv1, not in conv2"):
        initial_network(str(file), ("a", "b"), seed=0, stride_in="conv2")
