"""Which of the common codecs the installed FFmpeg libraries can read and write."""

from __future__ import annotations

import av
from av.error import FFmpegError

READ = ("h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg", "aac", "mp3", "opus", "vorbis", "flac", "pcm_s16le")
WRITE = ("libx264", "aac")  # for generated clips and explanations


def missing_codecs() -> tuple[list[str], list[str]]:
    """The codecs of READ that cannot be decoded, and those of WRITE that cannot be encoded."""
    return [name for name in READ if not _has(name, "r")], [name for name in WRITE if not _has(name, "w")]


def ffmpeg_version() -> str:
    """The version of libavcodec."""
    return ".".join(map(str, av.library_versions["libavcodec"]))


def _has(name: str, mode: str) -> bool:
    try:
        av.Codec(name, mode)  # type: ignore[arg-type]
    except (FFmpegError, ValueError):
        return False
    return True
