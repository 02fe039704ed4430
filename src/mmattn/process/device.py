"""Checks the name of a device before torch is imported."""

from __future__ import annotations

import re
from pathlib import Path

from mmattn.errors import UsageError

AUTO = "auto"
_NAME = re.compile(r"(cpu|cuda|mps|xpu|hpu|npu)(:\d+)?")
_GPU_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # of the drivers: NVIDIA, AMD, Windows' subsystem for Linux


def check_device(device: object, *, takes_auto: bool = False, here: bool = True) -> None:
    """Raise UsageError for a name that torch has not, and where `here` is the machine, for a GPU that it has not."""
    text = str(device)
    if takes_auto and text == AUTO:
        return
    if not (found := _NAME.fullmatch(text)):
        names = ["auto"] * takes_auto + ["cpu", "cuda", "cuda:0"]
        raise UsageError(f"device={text}: expected {', '.join(names)} or another device of torch")
    if found[1] == "cuda" and here and not has_gpu():
        raise UsageError(f"device={text}: this machine has no GPU with a driver; set device=cpu, or see mmattn doctor")


def has_gpu() -> bool:
    """Whether the driver of a GPU is loaded. torch may still not be built for it."""
    return any(Path(name).exists() for name in _GPU_FILES)
