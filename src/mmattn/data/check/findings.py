"""Flag files by limits on their measures, and summarise a library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from mmattn.data.check.journal import Record

FLAGS = {
    "soundless": "no sound track, or an empty one",
    "silent": "a sound track that is silent",
    "no_picture": "no picture track, or an empty one",
    "still": "the picture never changes",
    "black": "the picture is black",
    "short": "shorter than is useful",
    "variable_rate": "frames at uneven times",
    "offset": "picture and sound begin at different times",
    "duration_differs": "the duration in the header differs from that of the packets",
    "duplicate": "the same bytes as another file",
    "alike": "looks and sounds as another file",
}


@dataclass(frozen=True)
class FlagLimits:
    """The limits beyond which a measure is flagged."""

    silent_db: float = -60.0  # of full scale, for the loudest tenth of a second
    short_s: float = 1.0
    offset_s: float = 0.1
    still: float = 0.016  # change of the most changing place, 0 to 1. Measured: stills to 0.012, videos from 0.021
    black: float = 0.06  # brightness of the brightest place, 0 to 1

    def flags(self, record: Record) -> list[str]:
        """The flags of a file, in the order of FLAGS; an unreadable file can only be a duplicate."""
        if record["status"] != "ok":
            return ["duplicate"] if "duplicate_of" in record else []
        get: Callable[[str], Any] = record.get
        duration, measured, length = get("duration"), get("measured_duration"), length_of(record)
        issues, loudness, pictures = record["issues"], get("loudness"), get("frames")
        tests = {
            "soundless": "no_samples" in issues or (get("audio_codec") is None and "no_audio_decoder" not in issues),
            "silent": loudness is not None and loudness <= 10 ** (self.silent_db / 20),
            "no_picture": "no_frames" in issues or (get("video_codec") is None and "no_video_decoder" not in issues),
            "still": pictures == 1 or (get("change") is not None and record["change"] <= self.still),
            "black": get("brightness") is not None and record["brightness"] <= self.black,
            "short": length is not None and length < self.short_s,
            "variable_rate": get("variable_rate") is True,
            "offset": abs(get("av_offset") or 0.0) > self.offset_s,
            "duration_differs": duration and measured and abs(duration - measured) > max(0.5, 0.05 * measured),
            "duplicate": "duplicate_of" in record,
            "alike": "like" in record,
        }
        return [flag for flag in FLAGS if tests[flag]]


@dataclass
class Summary:
    """The summary of a library. Times in s."""

    source: str
    depth: str
    files: int = 0
    bytes: int = 0
    seconds: float = 0.0  # of all readable files together
    status: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    issues: Counter[str] = field(default_factory=Counter)
    containers: Counter[str] = field(default_factory=Counter)
    video_codecs: Counter[str] = field(default_factory=Counter)
    audio_codecs: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)  # files and folders left out, by reason
    duplicate_bytes: int = 0  # that duplicates take
    durations: dict[str, float] = field(default_factory=dict)  # quantiles
    limits: dict[str, float] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """Count a file."""
        self.files += 1
        self.bytes += record["bytes"] or 0
        self.status[record["status"]] += 1
        self.flags.update(record["flags"])
        self.issues.update(record.get("issues", ()))
        self.seconds += length_of(record) or 0.0 if record["status"] == "ok" else 0.0
        for counter, key in (
            (self.reasons, "reason"),
            (self.containers, "container"),
            (self.video_codecs, "video_codec"),
            (self.audio_codecs, "audio_codec"),
        ):
            if record.get(key) is not None:
                counter[record[key]] += 1
        if "duplicate_of" in record:
            self.duplicate_bytes += record["bytes"]

    def to_dict(self) -> dict[str, Any]:
        """For JSON; of counts the largest comes first."""
        values = {column.name: getattr(self, column.name) for column in fields(self)}
        return {k: dict(v.most_common()) if isinstance(v, Counter) else v for k, v in values.items()}


def length_of(record: Record) -> float | None:
    """Duration, s: measured, else by the header."""
    return record.get("measured_duration", record.get("duration"))
