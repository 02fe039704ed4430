"""The types that pass between the packages. Masks are bool, True = real. Times are in seconds.

Shape legend: B clips, T frames, F spectrogram frames, M mel bands, L tokens, D channels, N waveform samples.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from mmattn.files import ByteRange as ByteRange

Modality = Literal["video", "audio"]
T = TypeVar("T")
MOST_KNOWN = 32  # entries of a memo; the oldest is dropped
MODALITIES: tuple[Modality, Modality] = ("video", "audio")
WITHOUT_FLOAT64 = {"mps"}  # kinds of devices


Memo = list[tuple[tuple[Any, ...], Any]]
"""A cache of what was computed for some tokens, by key; it lives as long as its owner. See `once`."""


def once(memo: Memo, key: tuple[Any, ...], make: Callable[[], T]) -> T:
    """The result of `make`, computed once for a key. Tensors in a key are equal if they are the same object.

    A compiled graph keeps no cache: the compiler removes repeated computations itself.
    """
    if torch.compiler.is_compiling():
        return make()
    for known, value in memo:
        if len(known) == len(key) and all(_same(a, b) for a, b in zip(known, key, strict=True)):
            return value
    value = make()
    if len(memo) == MOST_KNOWN:  # every step of a caption adds a key for the same clip
        del memo[0]
    memo.append((key, value))
    return value


def widest(x: Tensor) -> Tensor:
    """`x` in float64, or in float32 on a device that has no float64."""
    return x.to(torch.float32 if x.device.type in WITHOUT_FLOAT64 else torch.float64)


def _same(a: Any, b: Any) -> bool:
    return a is b or (not isinstance(a, Tensor) and not isinstance(b, Tensor) and a == b)


@dataclass(frozen=True)
class Frames:
    """Frames and their times; None: the file has no video, or none at these times."""

    frames: UInt8[Tensor, "T 3 H W"] | None
    times: Float[Tensor, " T"]  # float64


@dataclass(frozen=True)
class Clip:
    """One decoded span of one file. Times are presentation times; 0 is the start of the earliest selected stream.

    A missing modality is None; it is not an error.
    """

    frames: UInt8[Tensor, "T 3 H W"] | None
    frame_times: Float[Tensor, " T"]  # float64, the requested times
    waveform: Float[Tensor, " N"] | None  # mono, in [-1, 1]
    sample_rate: int
    audio_start: float  # the time of waveform[0]
    source: str
    span: tuple[float, float]
    duration: float | None = None  # of the whole file, if known; see Request.measure_end
    issues: tuple[str, ...] = ()  # recovered problems, e.g. "truncated", "bad_packets", "late_audio"
    views: tuple[Frames, ...] = ()  # the same video in other formats, if windows request them
    sounds: tuple[Float[Tensor, " N"] | None, ...] = ()  # the same audio at other rates, likewise


@dataclass(frozen=True)
class Batch:
    """The input of a model's forward. A missing modality has an all-False keep mask."""

    frames: UInt8[Tensor, "B T 3 H W"]
    frame_keep: Bool[Tensor, "B T"]
    frame_times: Float[Tensor, "B T"]
    spectrogram: Float[Tensor, "B F M"]
    spectrogram_keep: Bool[Tensor, "B F"]
    spectrogram_times: Float[Tensor, "B F"]
    ids: tuple[str, ...]
    targets: dict[str, Tensor] = field(default_factory=dict)
    waveform: Float[Tensor, "B N"] | None = None  # for encoders that bring their own front end
    waveform_keep: Bool[Tensor, "B N"] | None = None
    sample_rate: int = 0  # of the waveform, Hz
    captions: tuple[tuple[str, ...], ...] = ()  # of each clip; training uses the first
    features: dict[Modality, Tokens] = field(default_factory=dict)  # precomputed tokens of frozen encoders
    real: Bool[Tensor, " B"] = None  # type: ignore[assignment]  # False: unreadable, must not count; None: all are real
    full: frozenset[str] = field(init=False, default=frozenset())  # names of the masks that are known to be all True

    def __post_init__(self) -> None:
        if not self.captions:
            object.__setattr__(self, "captions", ((),) * len(self.ids))
        if self.real is None:
            object.__setattr__(self, "real", torch.ones(len(self.ids), dtype=torch.bool, device=self.frame_keep.device))
        masks = {name: getattr(self, name) for name in ("frame_keep", "spectrogram_keep", "waveform_keep")}
        full = frozenset(name for name, keep in masks.items() if keep is not None and known_full(keep))
        object.__setattr__(self, "full", full)

    def to(self, device: torch.device | str) -> Batch:
        """The batch with all tensors on `device`."""
        return _map_tensors(self, lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Called by torch's loaders, so that `to` a GPU is asynchronous."""
        return _map_tensors(self, lambda tensor: tensor.pin_memory())

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Tokens:
    """An encoder's output: one stream of tokens with times.

    `full`: all tokens are known to be real; reading `keep` would have to synchronise with a GPU.
    """

    values: Float[Tensor, "B L D"]
    keep: Bool[Tensor, "B L"]
    times: Float[Tensor, "B L"]
    full: bool = False
    memo: Memo = field(default_factory=list, repr=False, compare=False)  # of `keep` and `times`

    @property
    def present(self) -> Bool[Tensor, " B"]:
        """The clips that have this modality."""
        return self.keep.any(dim=1)

    def with_values(self, values: Float[Tensor, "B L E"]) -> Tokens:
        """Other values for the same tokens; the memo stays valid."""
        return Tokens(values, self.keep, self.times, self.full, self.memo)

    def without(self, drop: Bool[Tensor, " B"]) -> Tokens:
        """The same stream without the modality in the clips of `drop`."""
        return Tokens(self.values, self.keep & ~drop[:, None], self.times)


@dataclass(frozen=True)
class LayerStats:
    """Statistics of one attention layer and query stream, if requested by `stats=`."""

    layer: str  # e.g. "cross.0"
    stream: str  # the modality of the queries
    query_keep: Bool[Tensor, "B Lq"]
    mass: dict[str, Float[Tensor, "B H Lq"]]  # attention mass on each modality, sums to 1 where a key exists
    prior: dict[str, Float[Tensor, " B"]]  # n_m / sum n, the mass that uniform attention would give
    kind: Literal["attention", "gate"] = "attention"  # the kind of shares in `mass`
    entropy: Float[Tensor, "B H Lq"] | None = None  # of the weights, in nats
    lag: Float[Tensor, "B H Lq"] | None = None  # mean attended time minus the query's own, s
    weights: dict[str, Float[Tensor, "B Lq Lk"]] | None = None  # on each key of each modality, the mean over heads

    def one(self, index: int) -> LayerStats:
        """The statistics of one clip of the batch."""
        clip = slice(index, index + 1)
        sides = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in sides.items():
            if isinstance(value, Tensor):
                sides[name] = value[clip]
            elif isinstance(value, dict):
                sides[name] = {part: share[clip] for part, share in value.items()}
        return LayerStats(**sides)


@dataclass(frozen=True)
class Fused:
    """A fusion's output. Tasks pool the streams as they need."""

    video: Tokens
    audio: Tokens
    stats: tuple[LayerStats, ...] = ()


def known_full(keep: Bool[Tensor, "B L"]) -> bool:
    """Whether a mask on the CPU is all True; False for one on a device, which would have to synchronise."""
    return keep.device.type == "cpu" and bool(keep.numpy().all())


_T = TypeVar("_T", bound=Batch)


def _map_tensors(batch: _T, move: Callable[[Tensor], Tensor]) -> _T:
    def one(value: Any) -> Any:
        if isinstance(value, Tensor):
            return move(value)
        if isinstance(value, dict):
            return {key: one(item) for key, item in value.items()}
        if isinstance(value, Tokens):
            return Tokens(move(value.values), move(value.keep), move(value.times), value.full)
        return value

    moved = copy(batch)  # keeps `full` without reading the masks again
    for f in fields(batch):
        if f.init:
            object.__setattr__(moved, f.name, one(getattr(batch, f.name)))
    return moved
