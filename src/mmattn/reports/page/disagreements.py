"""The clips on which runs disagree most: what each run made of them, with pictures, sound and spectrogram."""

from __future__ import annotations

import base64
import io
import json
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from markupsafe import Markup
from PIL import Image

from mmattn.config.compose import build, check_spec
from mmattn.data.load.reading import ClipReader
from mmattn.data.manifest.rows import Row, read_manifest
from mmattn.data.prepare.clips import ClipSpec
from mmattn.errors import MediaError, MmattnError, UsageError
from mmattn.media.read.request import Request
from mmattn.media.write.encode import encode_sound
from mmattn.reports.collect.groups import Group, mean_of
from mmattn.reports.collect.runs import CONFIG_FILE, Number, number, read_yaml
from mmattn.reports.page.thumbnails import to_jpegs

SHOWN_RUNS = 8  # of a clip: the best and the worst
FRAMES, MOST_S, RATE = 4, 4.0, 16000
_DEADLINE_S = 20.0
_MANIFEST = "manifest.jsonl"


@dataclass(frozen=True)
class CaptionWord:
    """A word of a caption and what it owes to picture and sound."""

    text: str
    video: Number
    audio: Number


@dataclass(frozen=True)
class Said:
    """What one row of the page made of a clip: the mean score of the clip's own tags, its split, its caption."""

    place: int
    name: str
    score: Number
    video: Number
    audio: Number
    synergy: Number
    caption: tuple[CaptionWord, ...] = ()


@dataclass(frozen=True)
class Disagreement:
    """One clip. Pictures, sound and spectrogram are data: URIs; `trouble` says why there are none."""

    id: str
    tags: tuple[str, ...]
    references: tuple[str, ...]
    spread: float  # standard deviation of the rows' scores
    said: tuple[Said, ...]
    pictures: tuple[str, ...] = ()
    sound: str | None = None
    spectrogram: str | None = None
    trouble: str | None = None
    command: str = ""


@dataclass(frozen=True)
class _Media:
    pictures: tuple[str, ...] = ()
    sound: str | None = None
    spectrogram: str | None = None
    trouble: str | None = None
    path: str | None = field(default=None)


def disagreements(groups: Sequence[Group], count: int) -> list[Disagreement]:
    """The `count` clips whose scores differ most between the groups that kept what each clip scored."""
    if len(groups) < 2 or count < 1:
        return []
    split = groups[0].mean.scores.split
    kept = [(place, group, clips) for place, group in enumerate(groups) if (clips := _clips(group, split))]
    if len(kept) < 2:
        return []
    shared = set.intersection(*(set(clips) for _, _, clips in kept))
    spreads = {name: _spread([clips[name]["score"] for _, _, clips in kept]) for name in shared}
    chosen = sorted(shared, key=lambda name: (-spreads[name], name))[:count]
    media = _read_media(groups[0].runs[0].path, split, chosen)
    samples = []
    for name in chosen:
        said = [_said(place, group, clips[name]) for place, group, clips in kept]
        said.sort(key=lambda one: -(one.score if one.score is not None else -1.0))
        half = SHOWN_RUNS // 2
        shown = said if len(said) <= SHOWN_RUNS else [*said[:half], *said[-half:]]
        first, found = kept[0][2][name], media[name]
        command = f"mmattn explain {shlex.quote(f'run={kept[0][1].runs[0].path}')} "
        command += shlex.quote(f"source={found.path}") if found.path else "source=FILE"
        samples.append(
            Disagreement(name, first["tags"], first["references"], spreads[name], tuple(shown), found.pictures, found.sound,
                   found.spectrogram, found.trouble, command)
        )  # fmt: skip
    return samples


def _spread(scores: Sequence[Number]) -> float:
    known = [score for score in scores if score is not None]
    return statistics.pstdev(known) if len(known) > 1 else 0.0


def _clips(group: Group, split: str) -> dict[str, dict[str, Any]]:
    """By id: means over the group's seeds; {} unless all of them kept their clips."""
    each = [_read_clips(run.path / f"evaluation-{split}-clips.jsonl") for run in group.runs]
    shared = set.intersection(*map(set, each))
    return {
        name: {
            **each[0][name],
            **{key: mean_of([one[name][key] for one in each]) for key in ("score", "video", "audio", "synergy")},
        }
        for name in shared
    }


def _read_clips(path: Path) -> dict[str, dict[str, Any]]:
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return {str(record["id"]): _clip(record) for record in records}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: cannot be read ({type(error).__name__}); evaluate the run again") from None


def _clip(record: Mapping[str, Any]) -> dict[str, Any]:
    """A clip is judged by its own tags, or where it has none by its caption."""
    captioning = record.get("captioning") or {}
    score = number(record["value"].get("both"))
    if score is None:
        score = number((captioning.get("metrics") or {}).get("rouge_l"))
    words = [
        CaptionWord(str(w.get("word")), number(w.get("video")), number(w.get("audio")))
        for w in captioning.get("words") or ()
    ]
    if not words and captioning.get("caption"):
        words = [CaptionWord(str(captioning["caption"]), None, None)]
    return {
        "tags": tuple(map(str, record.get("tags") or ())),
        "references": tuple(map(str, captioning.get("references") or ())),
        "score": score,
        **{part: number(record.get(part)) for part in ("video", "audio", "synergy")},
        "caption": tuple(words),
    }


def _said(place: int, group: Group, clip: Mapping[str, Any]) -> Said:
    parts = (clip[key] for key in ("score", "video", "audio", "synergy", "caption"))
    return Said(place, group.name, *parts)


def _read_media(run: Path, split: str, names: Sequence[str]) -> dict[str, _Media]:
    """What can be seen and heard of the clips of a run's data set, as far as it is still where it was."""
    try:
        data = read_yaml(run / CONFIG_FILE).get("data") or {}
        rows = {row.id: row for row in _rows(data) if (row.split or "train") == split}
        clip = build(data["clip"])
    except (MmattnError, OSError, KeyError, TypeError, AttributeError) as error:
        why = str(error).splitlines()[0] if isinstance(error, MmattnError) else type(error).__name__
        return dict.fromkeys(names, _Media(trouble=f"the clips cannot be shown: {why}"))
    bundles = str((data.get("source") or {}).get("_target_", "")).endswith("ShardSource")
    reader = ClipReader(deadline_s=_DEADLINE_S, bundles=bundles)
    try:
        return {
            name: _media(rows[name], clip, reader) if name in rows
            else _Media(trouble="the data set has no such clip any more") for name in names
        }  # fmt: skip
    finally:
        reader.close()


def _rows(data: Mapping[str, Any]) -> list[Row]:
    """The rows of the run's data set; nothing is made that is not there."""
    root = Path(str(data["root"]))
    if not root.exists():
        raise UsageError(f"{root} is not here")
    if (root / _MANIFEST).is_file():
        return read_manifest(root / _MANIFEST)
    check_spec(data["source"])
    if str(data["source"].get("_target_", "")).endswith("AVShapesSource"):
        raise UsageError(f"{root} has not been rendered here")
    return build(data["source"]).rows()


def _media(row: Row, spec: ClipSpec, reader: ClipReader) -> _Media:
    start = row.start
    end = min(start + MOST_S, start + spec.seconds, row.end if row.end is not None else float("inf"))
    times = tuple(start + (end - start) * (k + 0.5) / FRAMES for k in range(FRAMES))
    try:
        clip = reader(row.media, Request(times=times, start=start, end=end, audio_rate=RATE))
    except (MediaError, ValueError, OSError) as error:
        return _Media(trouble=f"cannot be read: {error}", path=str(row.path))
    pictures = () if clip.frames is None else tuple(map(Markup, to_jpegs(clip.frames)))
    heard = clip.waveform is not None and bool(clip.waveform.any())
    assert clip.waveform is not None or not heard
    sound = spectrogram = None
    if heard and clip.waveform is not None:
        sound = _uri("audio/flac", encode_sound(clip.waveform.numpy(), clip.sample_rate, "flac"))
        spectrogram = _spectrogram(clip.waveform, spec)
    return _Media(pictures, sound, spectrogram, None, str(row.path))


def _spectrogram(waveform: torch.Tensor, spec: ClipSpec) -> str:
    """Log-mel, low bands below, from black (the quietest) to white."""
    rows = spec.front_end(waveform) if spec.sample_rate == RATE else ClipSpec().front_end(waveform)
    low, high = float(rows.quantile(0.05)), float(rows.max())
    grey = ((rows - low) / max(high - low, 1e-6)).clamp(0, 1).mul(255).byte().T.flip(0).contiguous().numpy()
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(grey)).save(data, format="PNG", optimize=True)
    return _uri("image/png", data.getvalue())


def _uri(kind: str, data: bytes) -> Markup:
    """Nothing in it is to be escaped, and it is long."""
    return Markup(f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}")
