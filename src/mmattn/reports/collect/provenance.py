"""Code, packages, machine and size of a run. All of it is optional: a report can do without."""

from __future__ import annotations

import json
import math
from pathlib import Path

_HEADER_BYTES = 64 << 20  # a safetensors header above this is not read


def read_made_with(path: Path) -> dict[str, str]:
    """Code, packages and machine from a run.json; {} without one."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        packages = record.get("packages") or {}
        commit = record.get("git")
        changed = " with changes" if record.get("git_dirty") else ""
        known = {name: record.get(name) for name in ("mmattn", "python", "platform", "cores", "started", "command")}
        known |= {name: packages.get(name) for name in ("torch", "torchvision", "lightning", "av")}
        known |= {name: (record.get("machine") or {}).get(name) for name in ("host", "processor", "gpu", "driver")}
        known["commit"] = f"{str(commit)[:12]}{changed}" if commit else None
        return {name: str(value) for name, value in known.items() if value is not None}
    except (OSError, ValueError, AttributeError):
        return {}


def read_model_header(path: Path) -> tuple[dict[str, str], dict[str, float], int | None]:
    """Tag -> family, tag -> threshold and the number of weights, from the model file's header; no tensor is read."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size)) if 0 < size <= _HEADER_BYTES else {}
        record = json.loads(header.pop("__metadata__")["mmattn"])
        families = {str(tag): str(family) for tag, family in record["vocabulary"]["families"].items()}
        thresholds = {str(tag): float(value) for tag, value in record.get("thresholds", {}).items()}
        return families, thresholds, sum(math.prod(tensor["shape"]) for tensor in header.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}, {}, None
