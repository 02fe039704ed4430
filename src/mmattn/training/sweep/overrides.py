"""The overrides of `mmattn train -m`: values of keys in Hydra's grammar, typed or from the file of a grid."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmattn.config.compose import group_choices, read_choice
from mmattn.config.overrides import nearest
from mmattn.errors import UsageError, first_line
from mmattn.training.sweep.points import plain_name

KEYS = ("values", "overrides")  # of a grid


def with_grid(overrides: Sequence[str]) -> list[str]:
    """`overrides` with those of grid=NAME or grid=FILE.yaml; typed ones take precedence. Raises UsageError."""
    named = [text.partition("=")[2] for text in overrides if text.startswith("grid=")]
    rest = [text for text in overrides if not text.startswith("grid=")]
    if not named or named[-1] == "null":
        return rest
    grid = _read(named[-1])
    typed = {text.partition("=")[0] for text in rest}
    common = [text for text in grid.get("overrides") or [] if text.partition("=")[0] not in typed]
    swept = [
        f"{key}={','.join(_text(value) for value in values)}"
        for key, values in grid["values"].items()
        if key not in typed
    ]
    if not any(text.startswith(("sweep=", "sweep.folder=")) for text in rest):
        rest.append(f"sweep={Path(named[-1]).stem}")  # so that the same command continues the sweep
    return [*common, *swept, *rest]


def _read(name: str) -> dict[str, Any]:
    import yaml

    if name in (known := group_choices("grid")):
        grid: Any = read_choice("grid", name)
    elif (file := Path(name)).is_file():
        try:
            grid = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UsageError(f"grid={name}: not YAML ({first_line(error)})") from None
    else:
        raise UsageError(f"grid={name}: no such file, and no grid of that name{nearest(name, known)}")
    unknown = sorted(set(map(str, grid)) - set(KEYS)) if isinstance(grid, dict) else []
    if not isinstance(grid, dict) or unknown:
        wrong = f"{unknown[0]} is not a key of a grid" if unknown else "not a grid"
        raise UsageError(f"grid={name}: {wrong}; expected {' and '.join(KEYS)}")
    values, common = grid.get("values"), grid.get("overrides") or []
    if not isinstance(values, dict) or not values or not all(isinstance(v, list) and v for v in values.values()):
        raise UsageError(f"grid={name}: values: expected keys with lists of values, such as fusion: [late, cross]")
    if not isinstance(common, list) or not all(isinstance(one, str) for one in common):
        raise UsageError(f"grid={name}: overrides: expected a list of key=value")
    return grid


def _text(value: Any) -> str:
    """A YAML value in Hydra's grammar."""
    if not isinstance(value, str):
        return json.dumps(value)
    return value if re.fullmatch(r"[\w./+-]+", value) else "'" + value.replace("'", "\\'") + "'"


def folder_of(overrides: Sequence[str]) -> Path:
    """The folder of a sweep or search."""
    name = next((text.partition("=")[2] for text in overrides if text.startswith(("sweep=", "sweep.folder="))), None)
    return Path("runs") / "sweeps" / plain_name(name or time.strftime("%Y%m%d-%H%M%S"))


def is_named(overrides: Sequence[str]) -> bool:
    """Whether the sweep's name was typed."""
    return any(text.startswith(("sweep=", "sweep.folder=")) for text in overrides)


def of_runs(overrides: Sequence[str]) -> list[str]:
    """The overrides that configure the runs, without those that configure the sweep."""
    return [
        text
        for text in overrides
        if re.split("[=.]", text.lstrip("+"))[0] not in ("sweep", "search", "dry_run", "budget")
    ]


def check_unnamed(overrides: Sequence[str]) -> None:
    """Raises UsageError for run= or resume=, which a sweep sets itself."""
    if any(text.startswith(("run=", "resume=")) for text in overrides):
        raise UsageError("train -m names its runs itself; name the folder with sweep=NAME")
