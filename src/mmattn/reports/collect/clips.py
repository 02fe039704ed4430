"""The results for each clip that an evaluation stored: evaluation-SPLIT-clips.jsonl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmattn.errors import UsageError


def clips_file(run: Path, split: str) -> Path:
    """Where an evaluation of a run keeps the record of each clip of the split."""
    return run / f"evaluation-{split}-clips.jsonl"


def read_clips(path: Path) -> dict[str, dict[str, Any]]:
    """The record of each clip, by its id. Raises UsageError for a file that is missing or damaged."""
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return {str(record["id"]): record for record in records}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: cannot be read ({type(error).__name__}); evaluate the run again") from None
