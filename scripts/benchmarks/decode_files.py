"""Videos to measure decoding on, made by the ffmpeg program from real ones: 360p and 720p, a key frame at least every
12 or every 250 frames, 10 s, 60 s and 10 min long, 25 fps, H.264 (x264, medium, crf 23) with stereo AAC at 48 kHz.

All pictures of a folder follow each other, then begin again; likewise the sounds. The cut files are kept in a cache.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from mmattn.errors import MediaError
from mmattn.media.survey.probe import probe

HEIGHTS, GOPS, SECONDS = (360, 720), (250, 12), (10, 60, 600)
FPS, RATE = 25, 48000


@dataclass(frozen=True)
class Video:
    path: Path
    height: int
    gop: int
    seconds: int

    @property
    def name(self) -> str:
        length = f"{self.seconds // 60} min" if self.seconds > 60 else f"{self.seconds} s"
        return f"{length}, {self.height}p, GOP {self.gop}"


def make_videos(content: list[Path], cache: Path) -> list[Video]:
    """All of them, the short ones first; what the cache holds is not made again."""
    cache.mkdir(parents=True, exist_ok=True)
    videos = []
    for seconds in SECONDS:
        for height in HEIGHTS:
            for gop in GOPS:
                video = Video(cache / f"{height}p_g{gop}_{seconds}s.mp4", height, gop, seconds)
                if not video.path.exists():
                    _cut(_pictures(content, cache, height, gop), _sounds(content, cache), video)
                videos.append(video)
    return videos


def _pictures(content: list[Path], cache: Path, height: int, gop: int) -> Path:
    path, width = cache / f"v_{height}_{gop}.mp4", height * 16 // 9
    if not path.exists():
        files = [file for file in content if _has(file, "video")]
        shape = f"fps={FPS},scale={width}:{height}:force_original_aspect_ratio=increase,crop={width}:{height},setsar=1"
        parts = ";".join(f"[{k}:v:0]{shape}[v{k}]" for k in range(len(files)))
        joined = "".join(f"[v{k}]" for k in range(len(files))) + f"concat=n={len(files)}:v=1:a=0[out]"
        inputs = [word for file in files for word in ("-i", str(file))]
        codec = ["-c:v", "libx264", "-preset", "medium", "-crf", "23", "-g", str(gop), "-pix_fmt", "yuv420p"]
        _ffmpeg(path, *inputs, "-filter_complex", f"{parts};{joined}", "-map", "[out]", *codec)
    return path


def _sounds(content: list[Path], cache: Path) -> Path:
    path = cache / "a.wav"
    if not path.exists():
        files = [file for file in content if _has(file, "audio")]
        shape = f"aresample={RATE},aformat=channel_layouts=stereo"
        parts = ";".join(f"[{k}:a:0]{shape}[a{k}]" for k in range(len(files)))
        joined = "".join(f"[a{k}]" for k in range(len(files))) + f"concat=n={len(files)}:v=0:a=1[out]"
        inputs = [word for file in files for word in ("-i", str(file))]
        _ffmpeg(path, *inputs, "-filter_complex", f"{parts};{joined}", "-map", "[out]")
    return path


def _cut(pictures: Path, sounds: Path, video: Video) -> None:
    again = ["-stream_loop", "-1"]
    streams = ["-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "aac", "-b:a", "128k", "-t", str(video.seconds)]
    _ffmpeg(video.path, *again, "-i", str(pictures), *again, "-i", str(sounds), *streams)


def _has(file: Path, kind: str) -> bool:
    try:
        return getattr(probe(file, follow_symlinks=True), kind) is not None
    except MediaError:
        return False


def _ffmpeg(target: Path, *arguments: str) -> None:
    beside = target.with_name(f"making_{target.name}")
    subprocess.run(["ffmpeg", "-v", "error", "-y", *arguments, str(beside)], check=True, stdin=subprocess.DEVNULL)
    beside.replace(target)
