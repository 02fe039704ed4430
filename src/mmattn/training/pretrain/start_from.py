"""init_from: weights of an earlier run to start from."""

from __future__ import annotations

import sys
from pathlib import Path

from mmattn.checkpoint import load_model
from mmattn.errors import UsageError
from mmattn.model import AVModel


def start_from(model: AVModel, path: Path, quiet: bool = False) -> None:
    """Load the encoders of a trained or pretrained run into `model`, and its fusion where it is the same.

    Raises UsageError where the encoders differ.
    """
    other = load_model(path).model
    for name in ("visual", "audio", "fusion"):
        own, found = getattr(model, name).state_dict(), getattr(other, name).state_dict()
        wrong = sorted(own.keys() ^ found.keys()) or [k for k in own if own[k].shape != found[k].shape]
        if not wrong:
            getattr(model, name).load_state_dict(found)
        elif name == "fusion":
            if not quiet:
                print(
                    f"init_from={path}: its fusion differs, so the fusion starts from random weights", file=sys.stderr
                )
        else:
            raise UsageError(
                f"init_from={path}: its {name} encoder differs ({wrong[0]} and {len(wrong) - 1} more weights); "
                f"choose the same {name}=, dim= and settings"
            )
