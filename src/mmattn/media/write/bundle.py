"""A clip as JPEG images and audio in a range of a tar, one sample of a WebDataset: written once, read fast.

Its members, in this order: KEY.json, KEY.000000.jpg and so on, KEY.flac or KEY.wav. The JSON record lists what follows
(`members`: suffix, size and CRC-32 of each), so that an image is found without reading those before it, and nothing
else in the tar is read. Image k was shown at (k + 0.5) / fps s and represents [k, k + 1) / fps.
"""

from __future__ import annotations

import io
import json
import math
import re
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext

from mmattn.errors import MediaError
from mmattn.media.open.container import Deadline, Limits, one_line
from mmattn.media.open.source import Content, Source, name_of, open_source
from mmattn.media.read.decode import DecodedClip, decode
from mmattn.media.read.request import Request
from mmattn.media.read.video.render import Renderer
from mmattn.media.write.encode import AUDIO_FORMATS, AudioFormat, encode_audio, encode_image

if TYPE_CHECKING:
    from mmattn.types import Clip

_BLOCK = 512  # bytes, of a tar
_RECORD_BYTES = 64 << 20  # a longer JSON is not of a bundle
_KEY = re.compile(r"[0-9A-Za-z_-]{1,80}")


def times(seconds: float, fps: float) -> list[float]:
    """The times of a bundle's images, s after its start."""
    return [(k + 0.5) / fps for k in range(math.ceil(seconds * fps)) if (k + 0.5) / fps < seconds] or [0.0]


def write_bundle(key: str, clip: Clip, fps: float, sound: AudioFormat, quality: int, about: dict[str, Any]) -> bytes:
    """`clip`, read at `times`, as the bytes of tar members.

    `quality`: of the images, 1 to 100. `about`: added to the record, for other readers.
    """
    images = [] if clip.frames is None else clip.frames.permute(0, 2, 3, 1).numpy()
    files = [(f"{k:06d}.jpg", encode_image(image, quality)) for k, image in enumerate(images)]
    if clip.waveform is not None and len(clip.waveform):
        files.append((sound, encode_audio(clip.waveform.numpy(), clip.sample_rate, sound)))
    record = {
        **about,
        "fps": fps,
        "frame_times": [round(float(time) - clip.span[0], 6) for time in clip.frame_times],
        "sample_rate": clip.sample_rate,
        "duration": clip.span[1] - clip.span[0],
        "issues": list(clip.issues),
        "members": [[suffix, len(data), zlib.crc32(data)] for suffix, data in files],
    }
    out = io.BytesIO()
    for suffix, data in [("json", json.dumps(record).encode()), *files]:
        header = tarfile.TarInfo(f"{key}.{suffix}")
        header.size, header.mode = len(data), 0o644
        out.write(header.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % _BLOCK))
    return out.getvalue()


@dataclass(frozen=True)
class _Member:
    suffix: str
    at: int  # of its header, bytes from the bundle's start
    size: int
    crc: int


@dataclass(frozen=True)
class _Bundle:
    """An open bundle and the offsets of its members."""

    path: str
    content: Content
    key: str
    fps: float
    duration: float
    images: list[_Member]
    audio: _Member | None

    def read(self, member: _Member) -> bytes:
        data = self.content.read_at(member.at, _BLOCK + member.size)
        name, size = _header(data[:_BLOCK])
        if (name, size) != (f"{self.key}.{member.suffix}", member.size):
            raise MediaError(self.path, "not_media", f"found {name!r} where {self.key}.{member.suffix} should be")
        if zlib.crc32(data[_BLOCK:]) != member.crc:
            raise MediaError(self.path, "truncated", f"{name} is damaged (its CRC-32 differs)")
        return data[_BLOCK:]


def read_bundle(
    request: Request,
    src: Source,
    limits: Limits | None = None,
    deadline_s: float | None = None,
    follow_symlinks: bool = False,
) -> Clip:
    """The clip for `request` from the bundle at `src`: for each time the image that represents it.

    Raises MediaError, also for a tar that was not written by `write_bundle`.
    """
    return decode_bundle(request, src, limits, deadline_s, follow_symlinks).clip()


def decode_bundle(
    request: Request,
    src: Source,
    limits: Limits | None = None,
    deadline_s: float | None = None,
    follow_symlinks: bool = False,
) -> DecodedClip:
    """The same in numpy's arrays, without torch."""
    path, limits = name_of(src), limits or Limits()
    deadline = Deadline(path, deadline_s)
    with open_source(src, follow_symlinks) as content:
        bundle = _open(path, content)
        images: list[np.ndarray] = []
        grid = np.zeros(0)
        if request.video and bundle.images:
            grid = request.grid(len(bundle.images) / bundle.fps)
            render = Renderer(request.size, request.fit, resample=request.resample, resize=request.resize)
            images = _images(bundle, grid, render, limits, deadline)
        waveform, rate = None, request.audio_rate or 0
        if request.audio and bundle.audio is not None:
            audio_request = Request(start=request.start, end=request.end, video=False, audio_rate=request.audio_rate)
            audio = decode(audio_request, bundle.read(bundle.audio), limits, deadline_s)
            waveform, rate = audio.waveform, audio.sample_rate
    return DecodedClip(
        frames=np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2)) if images else None,
        frame_times=grid[: len(images)].copy(),
        waveform=waveform,
        sample_rate=rate,
        audio_start=request.start,
        source=path,
        span=(request.start, bundle.duration if request.end is None else request.end),
        duration=bundle.duration,
        issues=(),
    )


def _images(
    bundle: _Bundle, grid: np.ndarray, render: Renderer, limits: Limits, deadline: Deadline
) -> list[np.ndarray]:
    """An image (H, W, 3) for each time of `grid` before the last image's end."""
    decoder = av.CodecContext.create("mjpeg", "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_count = 1
    decoder.options = {"max_pixels": str(limits.frame_pixels)}
    images: list[np.ndarray] = []
    shown = -1
    for time in grid:
        deadline.check()
        k = int(time * bundle.fps + 1e-6)
        if k >= len(bundle.images):
            break
        if k != shown:
            try:
                (frame,) = decoder.decode(av.Packet(bundle.read(bundle.images[k])))
            except (FFmpegError, ValueError) as error:
                raise MediaError(bundle.path, "truncated", f"image {k}: {one_line(error)}") from error
            images.append(render(frame))
            if images[-1].nbytes * len(grid) > limits.decoded_bytes:
                raise MediaError(bundle.path, "too_large", f"{len(grid)} images, at most {limits.decoded_bytes} bytes")
            shown = k
        else:
            images.append(images[-1])
    return images


def _open(path: str, content: Content) -> _Bundle:
    name, size = _header(content.read_at(0, _BLOCK))
    key, _, suffix = name.partition(".")
    if not _KEY.fullmatch(key) or suffix != "json" or not 0 < size <= _RECORD_BYTES:
        raise MediaError(path, "not_media", f"begins with {name[:80]!r}, not with a record KEY.json")
    try:
        record = json.loads(content.read_at(_BLOCK, size))
        fps, duration = float(record["fps"]), float(record["duration"])
        members, end = _members(record["members"], _BLOCK + _padded(size))
        if not (0 < fps < math.inf and 0 <= duration < math.inf):
            raise ValueError(f"fps {fps}, duration {duration}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise MediaError(path, "not_media", f"{name}: not the record of a clip ({one_line(error)})") from error
    if end != content.size:
        raise MediaError(path, "truncated", f"its members take {end} bytes of {content.size}")
    audio = [member for member in members if member.suffix in AUDIO_FORMATS]
    return _Bundle(path, content, key, fps, duration, members[: len(members) - len(audio)], audio[0] if audio else None)


def _members(listed: Sequence[Sequence[Any]], at: int) -> tuple[list[_Member], int]:
    """The members, and where they end. Raises ValueError unless they are the images in order and one audio file."""
    members = []
    for k, (suffix, size, crc) in enumerate(listed):
        is_audio = suffix in AUDIO_FORMATS and k == len(listed) - 1
        if not (suffix == f"{k:06d}.jpg" or is_audio) or type(size) is not int or size < 1:
            raise ValueError(f"member {suffix!r} of {size} bytes")
        members.append(_Member(suffix, at, size, crc))
        at += _BLOCK + _padded(size)
    return members, at


def _header(block: bytes) -> tuple[str, int]:
    """Name and size in the header of a plain file; ("", 0) for anything else. The content has its own checksum."""
    digits = block[124:136].rstrip(b"\0 ")
    if len(block) < _BLOCK or block[156:157] not in (b"0", b"\0") or not digits.isdigit():
        return "", 0
    try:
        return block[:100].rstrip(b"\0").decode("ascii"), int(digits, 8)
    except ValueError:
        return "", 0


def _padded(size: int) -> int:
    return size + -size % _BLOCK
