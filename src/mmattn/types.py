"""The types that pass between the rooms. Masks are bool, True = real. Times are seconds.

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
MOST_KNOWN = 32  # of a memo: the oldest goes
MODALITIES: tuple[Modality, Modality] = ("video", "audio")


Memo = list[tuple[tuple[Any, ...], Any]]
"""What was worked out for some tokens, by key: it is known as long as its owner lives, and no longer. See `once`."""


def once(memo: Memo, key: tuple[Any, ...], make: Callable[[], T]) -> T:
    """What `make` gives, or gave before for this key. Tensors in a key are the same if they are one object.

    A compiled graph keeps nothing from call to call: the compiler finds what it works out twice.
    """
    if torch.compiler.is_compiling():
        return make()
    for known, value in memo:
        if len(known) == len(key) and all(_same(a, b) for a, b in zip(known, key, strict=True)):
            return value
    value = make()
    if len(memo) == MOST_KNOWN:  # a caption's every step asks the same clip from a new place
        del memo[0]
    memo.append((key, value))
    return value


def _same(a: Any, b: Any) -> bool:
    return a is b or (not isinstance(a, Tensor) and not isinstance(b, Tensor) and a == b)


@dataclass(frozen=True)
class Frames:
    """Frames and their times; None: the file has no picture, or none then."""

    frames: UInt8[Tensor, "T 3 H W"] | None
    times: Float[Tensor, " T"]  # float64


@dataclass(frozen=True)
class Clip:
    """One decoded span of one file. Times are presentation times of the file, 0 = its earliest selected stream's start.

    A missing modality is None, which is not an error.
    """

    frames: UInt8[Tensor, "T 3 H W"] | None
    frame_times: Float[Tensor, " T"]  # float64, the grid times that were asked for
    waveform: Float[Tensor, " N"] | None  # mono, in [-1, 1]
    sample_rate: int
    audio_start: float  # the time of waveform[0]
    source: str
    span: tuple[float, float]
    duration: float | None = None  # of the whole file, where it is known; see Request.measure_end
    issues: tuple[str, ...] = ()  # recovered problems, e.g. "truncated", "bad_packets", "late_audio"
    views: tuple[Frames, ...] = ()  # the same picture in other ways, where windows ask for them
    sounds: tuple[Float[Tensor, " N"] | None, ...] = ()  # the same sound at other rates, likewise


@dataclass(frozen=True)
class Batch:
    """What a model's forward gets. A missing modality has an all-False keep mask."""

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
    captions: tuple[tuple[str, ...], ...] = ()  # of each clip; the first is the one to learn this time
    features: dict[Modality, Tokens] = field(default_factory=dict)  # what frozen encoders made of the clips before
    real: Bool[Tensor, " B"] = None  # type: ignore[assignment]  # False: could not be read, must not count; None: all
    full: frozenset[str] = field(init=False, default=frozenset())  # masks known to be True all over, by their names

    def __post_init__(self) -> None:
        if not self.captions:
            object.__setattr__(self, "captions", ((),) * len(self.ids))
        if self.real is None:
            object.__setattr__(self, "real", torch.ones(len(self.ids), dtype=torch.bool, device=self.frame_keep.device))
        masks = {name: getattr(self, name) for name in ("frame_keep", "spectrogram_keep", "waveform_keep")}
        full = frozenset(name for name, keep in masks.items() if keep is not None and known_full(keep))
        object.__setattr__(self, "full", full)

    def to(self, device: torch.device | str) -> Batch:
        return _map_tensors(self, lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """As torch's loaders ask for, so that `to` a GPU need not be waited for."""
        return _map_tensors(self, lambda tensor: tensor.pin_memory())

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Tokens:
    """An encoder's output: one stream of tokens with times.

    `full`: all tokens are known to be real, without a look at `keep`, which on a GPU would have to wait for it.
    """

    values: Float[Tensor, "B L D"]
    keep: Bool[Tensor, "B L"]
    times: Float[Tensor, "B L"]
    full: bool = False
    memo: Memo = field(default_factory=list, repr=False, compare=False)  # of `keep` and `times`

    @property
    def present(self) -> Bool[Tensor, " B"]:
        """Which clips have this modality at all."""
        return self.keep.any(dim=1)

    def with_values(self, values: Float[Tensor, "B L E"]) -> Tokens:
        """Other values at the same places: what was worked out for the places stays known."""
        return Tokens(values, self.keep, self.times, self.full, self.memo)

    def without(self, drop: Bool[Tensor, " B"]) -> Tokens:
        """The same stream with the modality missing where `drop`."""
        return Tokens(self.values, self.keep & ~drop[:, None], self.times)


@dataclass(frozen=True)
class LayerStats:
    """What one attention layer looked at, per query stream. Asked for by `stats=`, absent otherwise."""

    layer: str  # e.g. "cross.0"
    stream: str  # the modality of the queries
    query_keep: Bool[Tensor, "B Lq"]
    mass: dict[str, Float[Tensor, "B H Lq"]]  # attention mass on each modality, sums to 1 where a key exists
    prior: dict[str, Float[Tensor, " B"]]  # n_m / sum n, the mass that uniform attention would give
    kind: Literal["attention", "gate"] = "attention"  # what the shares are of
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
    """Whether a mask is True all over; False where asking would mean to wait for a device."""
    return keep.device.type == "cpu" and bool(keep.numpy().all())


_T = TypeVar("_T", bound=Batch)


def _map_tensors(batch: _T, move) -> _T:
    def one(value: Any) -> Any:
        if isinstance(value, Tensor):
            return move(value)
        if isinstance(value, dict):
            return {key: one(item) for key, item in value.items()}
        if isinstance(value, Tokens):
            return Tokens(move(value.values), move(value.keep), move(value.times), value.full)
        return value

    moved = copy(batch)  # not made anew: what is known of the masks is not asked for again
    for f in fields(batch):
        if f.init:
            object.__setattr__(moved, f.name, one(getattr(batch, f.name)))
    return moved
