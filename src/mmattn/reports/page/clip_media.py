"""Pictures, sound and spectrogram of clips of a run's data set, as far as the files are still there."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mmattn.config.compose import build, check_spec
from mmattn.data.load.reader import ClipReader
from mmattn.data.manifest.rows import Row, read_manifest
from mmattn.data.prepare.clips import ClipSpec
from mmattn.errors import MediaError, MmattnError, UsageError
from mmattn.media.read.request import Request
from mmattn.media.write.encode import encode_audio
from mmattn.reports.collect.runs import CONFIG_FILE, read_yaml
from mmattn.reports.html import data_uri
from mmattn.reports.page.thumbnails import to_jpegs

FRAMES, MOST_S, RATE = 4, 4.0, 16000
_DEADLINE_S = 20.0
_MANIFEST = "manifest.jsonl"


@dataclass(frozen=True)
class ClipMedia:
    """Pictures, sound and spectrogram are data: URIs; `trouble` says why there are none.

    `left_out`: they are not shown, to keep the page small.
    """

    pictures: tuple[str, ...] = ()
    sound: str | None = None
    spectrogram: str | None = None
    trouble: str | None = None
    path: str | None = None
    left_out: bool = False


def read_media(run: Path, split: str, ids: Sequence[str], shown: int) -> dict[str, ClipMedia]:
    """The media of the clips `ids` of the run's data set, and of those after the first `shown` only the path."""
    try:
        data = read_yaml(run / CONFIG_FILE).get("data") or {}
        rows = {row.id: row for row in _rows(data) if (row.split or "train") == split}
        clip = build(data["clip"])
    except (MmattnError, OSError, KeyError, TypeError, AttributeError) as error:
        why = str(error).splitlines()[0] if isinstance(error, MmattnError) else type(error).__name__
        trouble = ClipMedia(trouble=f"the clips cannot be shown: {why}")
        return dict.fromkeys(ids, ClipMedia(left_out=True)) | dict.fromkeys(ids[:shown], trouble)
    bundles = str((data.get("source") or {}).get("_target_", "")).endswith("ShardSource")
    reader = ClipReader(deadline_s=_DEADLINE_S, bundles=bundles)
    absent = ClipMedia(trouble="the data set no longer has this clip")
    try:
        read = {id_: _media(rows[id_], clip, reader) for id_ in ids[:shown] if id_ in rows}
        rest = {id_: ClipMedia(path=str(rows[id_].path), left_out=True) for id_ in ids[shown:] if id_ in rows}
        return dict.fromkeys(ids, absent) | read | rest
    finally:
        reader.close()


def _rows(data: Mapping[str, Any]) -> list[Row]:
    """The rows of the run's data set; nothing is generated that is not there."""
    root = Path(str(data["root"]))
    if not root.exists():
        raise UsageError(f"{root} is not on this machine")
    if (root / _MANIFEST).is_file():
        return read_manifest(root / _MANIFEST)
    check_spec(data["source"])
    if str(data["source"].get("_target_", "")).endswith("AVShapesSource"):
        raise UsageError(f"{root} has not been rendered here")
    return build(data["source"]).rows()


def _media(row: Row, spec: ClipSpec, reader: ClipReader) -> ClipMedia:
    start = row.start
    end = min(start + MOST_S, start + spec.seconds, row.end if row.end is not None else float("inf"))
    times = tuple(start + (end - start) * (k + 0.5) / FRAMES for k in range(FRAMES))
    try:
        clip = reader(row.media, Request(times=times, start=start, end=end, audio_rate=RATE))
    except (MediaError, ValueError, OSError) as error:
        return ClipMedia(trouble=f"cannot be read: {error}", path=str(row.path))
    pictures = () if clip.frames is None else tuple(to_jpegs(clip.frames))
    sound = spectrogram = None
    if clip.waveform is not None and clip.waveform.any():
        sound = data_uri("audio/flac", encode_audio(clip.waveform.numpy(), clip.sample_rate, "flac"))
        spectrogram = _spectrogram(clip.waveform, spec)
    return ClipMedia(pictures, sound, spectrogram, None, str(row.path))


def _spectrogram(waveform: torch.Tensor, spec: ClipSpec) -> str:
    """Log-mel, low bands at the bottom, from black (the quietest) to white."""
    log_mel = spec.front_end(waveform) if spec.sample_rate == RATE else ClipSpec().front_end(waveform)
    low, high = float(log_mel.quantile(0.05)), float(log_mel.max())
    grey = ((log_mel - low) / max(high - low, 1e-6)).clamp(0, 1).mul(255).byte().T.flip(0).contiguous().numpy()
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(grey)).save(data, format="PNG", optimize=True)
    return data_uri("image/png", data.getvalue())
