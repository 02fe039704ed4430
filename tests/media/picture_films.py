"""Small films whose pixels are not simply shown as they are stored: turned, HDR, interlaced, of oblong pixels."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg here")
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "4", "-pix_fmt", "yuv420p")


def ffmpeg(*arguments: str | Path) -> bytes:
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, timeout=120)
    if done.returncode and (b"No such filter" in done.stderr or b"Unknown encoder" in done.stderr):
        pytest.skip(done.stderr.decode(errors="replace").splitlines()[0])
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


QUARTERS = np.zeros((32, 48, 3), np.uint8)
QUARTERS[:16, :24], QUARTERS[:16, 24:], QUARTERS[16:, :24] = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def turned_film(path: Path, rotation: int, mirrored: bool) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv444p"
        stream.set_display_rotation(rotation, hflip=mirrored)
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(QUARTERS, format="rgb24")))
        container.mux(stream.encode(None))
    return path


HDR = {"pq": "smpte2084", "hlg": "arib-std-b67"}


def hdr_film(path: Path, kind: str, source: str = "testsrc2=size=320x180:rate=25") -> Path:
    """A usual picture as HDR, its white at 203 cd/m2 as ITU-R BT.2408 has it."""
    name = HDR[kind]
    told = "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv"
    first = f"scale=out_color_matrix=bt709:out_range=tv,format=yuv444p16le,{told},zscale=t=linear:npl=203"
    then = f"format=gbrpf32le,zscale=p=bt2020:t={name}:m=2020_ncl:r=tv:npl=203,format=yuv420p10le"
    x265 = f"log-level=none:crf=4:colorprim=bt2020:transfer={name}:colormatrix=bt2020nc:range=limited"
    tags = ("-color_primaries", "bt2020", "-color_trc", name, "-colorspace", "bt2020nc")
    chain = f"{first},{then}"
    ffmpeg("-f", "lavfi", "-i", source, "-vf", chain, "-t", "0.2", "-c:v", "libx265", "-x265-params", x265, *tags, path)
    return path


def interlaced_film(path: Path, *options: str) -> Path:
    """Moving lines, two fields a frame."""
    chain = "interlace,format=yuv420p"
    source = ("-f", "lavfi", "-i", "testsrc2=size=352x288:rate=50", "-t", "2", "-vf", chain)
    x264 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "8", "-g", "10", "-x264-params", "interlaced=1:tff=1")
    ffmpeg(*source, *x264, *options, path)
    return path


def circle(path: Path, aspect: str = "64/45", size: tuple[int, int] = (720, 576)) -> Path:
    """A white disc that is round when the pixels are `aspect` wide."""
    width, height = size
    shape = f"lte(hypot((X-W/2)*{aspect},Y-H/2),H/3)"
    source = f"color=black:size={width}x{height}:rate=25,geq=lum='255*{shape}':cb=128:cr=128,setsar={aspect}"
    ffmpeg("-f", "lavfi", "-i", source, "-t", "0.4", *X264, path)
    return path


def roundness(image: np.ndarray) -> float:
    """Width over height of what is bright in (H, W, 3)."""
    bright = image.mean(axis=2) > 128
    return float(bright.any(axis=0).sum() / bright.any(axis=1).sum())
