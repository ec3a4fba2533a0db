from __future__ import annotations

import pytest
import torch

from wsi_cam.classifiers.device import choose_device
from wsi_cam.errors import ModelError


def test_the_cpu_is_always_there() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device(torch.device("cpu")) == torch.device("cpu")


def test_auto_finds_a_device_that_can_compute() -> None:
    device = choose_device("auto")
    assert float(torch.ones(3, device=device).sum()) == 3


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "meta", "cuda:x"])
def test_a_device_that_is_not_there_is_refused_with_a_way_out(name: str) -> None:
    with pytest.raises(ModelError, match=r"^device .*; use .*cpu") as refused:
        choose_device(name)
    assert "\n" not in str(refused.value)


def test_a_missing_gpu_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match="no CUDA GPU is visible"):
        choose_device("cuda")
