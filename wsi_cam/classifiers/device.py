"""Which processor computes: asked for by name, or the best one there is."""

from __future__ import annotations

import torch

from wsi_cam.errors import ModelError


def choose_device(name: str | torch.device = "auto") -> torch.device:
    """The device called ``"auto"``, ``"cuda"``, ``"cuda:1"``, ``"mps"`` or ``"cpu"``.

    ``"auto"`` takes the first of cuda, mps and cpu that works here. Raises ModelError, with the
    reason, for a device that is unknown or not available.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"device {name!r}: unknown; use auto, cpu, cuda, cuda:N or mps") from error
    reason = _why_not(device)
    if reason:
        raise ModelError(f"device {str(device)!r}: {reason}; use --device auto or --device cpu")
    if str(device) == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    return device


def device_name(device: torch.device) -> str:
    """What people call it: ``cuda (NVIDIA H100)``, ``cpu``."""
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


def _why_not(device: torch.device) -> str:
    """Why a device cannot be used; empty where it can."""
    if device.type == "cpu":
        return ""
    if device.type == "cuda":
        if not torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
            return "this installation of torch was built without CUDA"
        if not torch.cuda.is_available():
            return "no CUDA GPU is visible (driver missing, or CUDA_VISIBLE_DEVICES hides it)"
        n_devices = torch.cuda.device_count()
        if device.index is not None and device.index >= n_devices:
            return f"there are {n_devices} CUDA devices, counted from 0"
        return ""
    if device.type == "mps":
        return "" if torch.backends.mps.is_available() else "no Apple GPU is available to torch"
    return "not a kind of device that is supported"
