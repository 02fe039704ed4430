"""The readers that decode.py compares: each gives frames (T, H, W, 3) uint8 at times, and the sound in Hz if it can.

One thread each. torchcodec, OpenCV and decord take part where they are installed, the ffmpeg program where it is found.
A reader's `read(path, times, span)` gets the seconds to look at and the (start, end) whose sound is wanted, None: all.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mmattn.media.read.decode import read_clip

SIZE, RATE, FPS = 224, 16000, 25
Span = tuple[float, float] | None
Read = Callable[[Path, list[float], Span], tuple[np.ndarray, int | None]]  # frames, number of samples


def ours(path: Path, times: list[float], span: Span) -> tuple[np.ndarray, int | None]:
    start, end = span or (0.0, None)
    clip = read_clip(path, times=times, start=start, end=end, size=(SIZE, SIZE), audio_rate=RATE)
    assert clip.frames is not None and clip.waveform is not None
    return clip.frames.permute(0, 2, 3, 1).numpy(), len(clip.waveform)


def torchcodec(mode: Literal["exact", "approximate"]) -> Read:
    from torchcodec.decoders import AudioDecoder, VideoDecoder
    from torchcodec.transforms import Resize

    def read(path: Path, times: list[float], span: Span) -> tuple[np.ndarray, int | None]:
        video: Any = VideoDecoder(
            str(path),
            num_ffmpeg_threads=1,
            seek_mode=mode,
            transforms=[Resize((SIZE, SIZE))],  # type: ignore[arg-type]
        )
        frames = video.get_frames_played_at(times).data
        audio = AudioDecoder(str(path), sample_rate=RATE, num_channels=1)
        samples = audio.get_all_samples() if span is None else audio.get_samples_played_in_range(*span)
        return frames.permute(0, 2, 3, 1).numpy(), samples.data.shape[1]

    return read


def opencv(path: Path, times: list[float], span: Span) -> tuple[np.ndarray, int | None]:
    import cv2

    cv2.setNumThreads(1)
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    frames = []
    for time in times:
        capture.set(cv2.CAP_PROP_POS_FRAMES, int(time * FPS))
        _, image = capture.read()
        image = cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        frames.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    return np.stack(frames), None


def decord(path: Path, times: list[float], span: Span) -> tuple[np.ndarray, int | None]:
    from decord import VideoReader

    reader = VideoReader(str(path), num_threads=1, width=SIZE, height=SIZE)
    return reader.get_batch([int(time * FPS) for time in times]).asnumpy(), None


def ffmpeg_seek(path: Path, times: list[float], span: Span) -> tuple[np.ndarray, int | None]:
    """A process for each frame, as scripts do it, and one for the sound. -ss means the first frame from a time on."""
    starts = [max(int(time * FPS) - 0.5, 0.0) / FPS for time in times]
    frames = [_ffmpeg("-ss", f"{start:.6f}", "-i", str(path), "-frames:v", "1", *_picture()) for start in starts]
    around = ["-ss", f"{span[0]:.6f}", "-t", f"{span[1] - span[0]:.6f}"] if span is not None else []
    samples = _ffmpeg(*around, "-i", str(path), *_sound())
    return np.stack([_image(frame) for frame in frames]), len(samples) // 4


def ffmpeg_pass(path: Path, times: list[float], span: Span) -> tuple[np.ndarray, int | None]:
    """One process that decodes every frame up to the last one wanted and keeps some."""
    wanted = "+".join(f"eq(n\\,{int(time * FPS)})" for time in times)
    frames = _ffmpeg("-i", str(path), "-vf", f"select={wanted},scale={SIZE}:{SIZE}:flags=area", *_picture()[2:])
    around = ["-ss", f"{span[0]:.6f}", "-t", f"{span[1] - span[0]:.6f}"] if span is not None else []
    samples = _ffmpeg(*around, "-i", str(path), *_sound())
    return _image(frames), len(samples) // 4


def _picture() -> list[str]:
    return ["-vf", f"scale={SIZE}:{SIZE}:flags=area", "-an", "-vsync", "0", "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]


def _sound() -> list[str]:
    return ["-vn", "-ac", "1", "-ar", str(RATE), "-f", "f32le", "-"]


def _ffmpeg(*arguments: str) -> bytes:
    command = ["ffmpeg", "-v", "error", "-nostdin", "-threads", "1", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def _image(data: bytes) -> np.ndarray:
    image = np.frombuffer(data, np.uint8).reshape(-1, SIZE, SIZE, 3)
    return image[0] if len(image) == 1 else image


def readers() -> dict[str, Read]:
    """Those that are here, by name."""
    found: dict[str, Read] = {"mmattn": ours}
    if find_spec("torchcodec"):
        found |= {"torchcodec exact": torchcodec("exact"), "torchcodec approximate": torchcodec("approximate")}
    if find_spec("cv2"):
        found["OpenCV"] = opencv
    if find_spec("decord"):
        found["decord"] = decord
    if shutil.which("ffmpeg"):
        found |= {"ffmpeg -ss": ffmpeg_seek, "ffmpeg select": ffmpeg_pass}
    return found


def versions() -> list[str]:
    """What was compared, and with which FFmpeg."""
    import av

    told = [f"PyAV {av.__version__} (FFmpeg {av.library_versions['libavcodec'][0] - 54})"]
    if find_spec("torchcodec"):
        import torchcodec as codec
        from torchcodec._core import get_ffmpeg_library_versions

        told.append(f"torchcodec {codec.__version__} (FFmpeg {get_ffmpeg_library_versions()['ffmpeg_version']})")
    if find_spec("cv2"):
        import cv2

        told.append(f"OpenCV {cv2.__version__}")
    if find_spec("decord"):
        import decord as reader

        told.append(f"decord {reader.__version__}")
    if shutil.which("ffmpeg"):
        told.append(subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True).stdout.split(" Copy")[0])
    return told
