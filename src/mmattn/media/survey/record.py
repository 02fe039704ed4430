"""What a survey of one file found, as a record that JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from mmattn.errors import MEDIA_REASONS
from mmattn.media.read.video.render import shown_size

Depth = Literal["header", "sample", "full"]
DEPTHS: tuple[Depth, ...] = get_args(Depth)


@dataclass(frozen=True)
class Survey:
    """The measures of one file. Times in s; None: absent, or not measured at this depth. Audio: the channels' mean."""

    container: str
    streams: int
    duration: float | None = None  # by the header, or by the packets where the header may be a guess
    video_codec: str | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None  # by the header
    pixel_aspect: float | None = None
    rotation: int | None = None
    mirrored: bool | None = None
    pixel_format: str | None = None
    audio_codec: str | None = None
    sample_rate: int | None = None
    channels: int | None = None
    issues: tuple[str, ...] = ()
    # from the packets
    measured_duration: float | None = None
    measured_fps: float | None = None
    frames: int | None = None
    variable_rate: bool | None = None
    av_offset: float | None = None  # start of the audio minus start of the video
    # from what was decoded
    seen: int | None = None  # decoded frames
    brightness: float | None = None  # of the brightest pixel of any frame, 0 to 1
    change: float | None = None  # of any pixel of any frame against the first frame, the largest, 0 to 1
    picture_hash: str | None = None  # hex, 64 bits for each of four frames (difference hash); 0 for a flat frame
    heard: float | None = None  # decoded audio, s
    loudness: float | None = None  # root mean square of the loudest 0.1 s, 1 = full scale
    sound_hash: str | None = None  # hex, 32 bits: where the sample gets louder; 0 for silence
    # what failed after the header
    reason: str | None = None
    detail: str | None = None

    @property
    def shown_size(self) -> tuple[int, int] | None:
        """(height, width) of the upright video with square pixels; None without a video."""
        if not (self.width and self.height):
            return None
        return shown_size(self.width, self.height, self.pixel_aspect or 1.0, bool((self.rotation or 0) % 180))

    def to_dict(self) -> dict[str, Any]:
        """The record for JSON."""
        return asdict(self) | {"issues": list(self.issues)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Survey:
        """The reverse of `to_dict`; other keys are ignored. Raises ValueError for values of another type."""
        values: dict[str, Any] = {column.name: record.get(column.name) for column in fields(cls)}
        for column in fields(cls):
            kind, _, absent = str(column.type).partition(" | ")
            value = values[column.name]
            if not (isinstance(value, _KINDS[kind]) or (absent and value is None)) or value != value:
                raise ValueError(f"{column.name}: {value!r}")
        if not all(isinstance(issue, str) for issue in values["issues"]):
            raise ValueError(f"issues: {values['issues']!r}")
        if values["reason"] is not None and values["reason"] not in MEDIA_REASONS:
            raise ValueError(f"reason: {values['reason']!r}")
        return cls(**{**values, "issues": tuple(values["issues"])})


_KINDS: dict[str, Any] = {"str": str, "int": int, "float": (int, float), "bool": bool, "tuple[str, ...]": (list, tuple)}
