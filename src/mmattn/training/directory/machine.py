"""Describes the machine: times are comparable only on one host with one GPU model and one driver."""

from __future__ import annotations

import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path


@cache
def describe_machine() -> dict[str, str]:
    """Host, processor, and the models of its GPUs and their driver where it has any.

    Uses nvidia-smi, so that no CUDA context is created in a process that will start others.
    """
    found = {"host": platform.node(), "processor": _processor()}
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return found
    try:
        command = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
        lines = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return found
    cards = [tuple(part.strip() for part in line.rpartition(",")[::2]) for line in lines if "," in line]
    if cards:
        found |= {"gpu": ", ".join(sorted({name for name, _ in cards})), "driver": cards[0][1]}
    return found


def machine_name(facts: dict[str, str]) -> str:
    """The machine in one line; "" for an empty description."""
    gpu = f"{facts['gpu']}, driver {facts.get('driver', 'unknown')}" if facts.get("gpu") else facts.get("processor", "")
    return f"{gpu} in {facts['host']}" if facts.get("host") else ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
