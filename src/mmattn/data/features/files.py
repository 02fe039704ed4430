"""The tokens of each clip in the files of a feature folder."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor

from mmattn.errors import UsageError
from mmattn.types import MODALITIES, Modality

CLIPS_KEY = "clips"  # in a file's metadata
OPEN_FILES = 64


class Stream(NamedTuple):
    """One modality of one clip."""

    values: Tensor  # (L, D)
    keep: Tensor  # (L,)
    times: Tensor  # (L,) s


class FeatureFiles:
    """Reads the tokens of a clip by its id; at most OPEN_FILES files are open."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._open: OrderedDict[Path, Any] = OrderedDict()
        self._places: dict[str, tuple[Path, int]] = {}
        for name in names:
            for slot, clip_id in enumerate(listed_clips(folder / name)["ids"]):
                self._places[clip_id] = folder / name, slot

    def __contains__(self, clip_id: str) -> bool:
        return clip_id in self._places

    def read(self, clip_id: str) -> dict[Modality, Stream]:
        """The tokens of each modality."""
        path, slot = self._places[clip_id]
        file = self._file(path)
        return {
            name: Stream(*(file.get_slice(f"{name}.{part}")[slot] for part in Stream._fields)) for name in MODALITIES
        }

    def _file(self, path: Path) -> Any:
        if path not in self._open:
            self._open[path] = safe_open(path, framework="pt")
        self._open.move_to_end(path)
        while len(self._open) > OPEN_FILES:
            self._open.popitem(last=False)
        return self._open[path]

    def close(self) -> None:
        """Close the open files; they are opened again when needed."""
        self._open.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {"_places": self._places, "_open": OrderedDict()}


def listed_clips(path: Path) -> dict[str, Any]:
    """The clips of a file: `ids` in order, and the `unreadable`. Raises UsageError for any other file."""
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads(file.metadata()[CLIPS_KEY])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: not a file of features ({error})") from None
