"""Pictures are what players show: orientation, colours, HDR, interlacing and pixel shape, against ffmpeg's own."""

from __future__ import annotations

import io
import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from media_clips import indices, movie
from picture_films import (
    HDR,
    QUARTERS,
    X264,
    circle,
    ffmpeg,
    hdr_film,
    interlaced_film,
    needs_ffmpeg,
    roundness,
    turned_film,
)
from PIL import Image, ImageOps

from mmattn.media.read.decode import read_clip
from mmattn.media.read.request import Request
from mmattn.media.read.windows.iterate import iter_windows
from mmattn.media.survey.probe import probe
from mmattn.media.write.video import write_video


def shown_by_ffmpeg(path: Path, height: int, width: int, chain: str = "null") -> np.ndarray:
    """(T, H, W, 3) of every frame, as ffmpeg turns it and `chain` filters it."""
    raw = ffmpeg("-i", path, "-vf", chain + ",format=rgb24", "-fps_mode", "passthrough", "-f", "rawvideo", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def frames_of(path: Path, **options) -> np.ndarray:
    """(T, H, W, 3) of every frame of 25 a second."""
    clip = read_clip(path, fps=25, audio=False, **options)
    assert clip.frames is not None
    return clip.frames.permute(0, 2, 3, 1).numpy()


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape
    return float(np.abs(ours.astype(float) - theirs).mean())


def corners(image: np.ndarray) -> list[tuple[int, ...]]:
    """Which channels are on in the middle of the four quarters of (H, W, 3)."""
    tall, wide = image.shape[:2]
    places = itertools.product((tall // 4, 3 * tall // 4), (wide // 4, 3 * wide // 4))
    return [tuple(int(value > 100) for value in image[place]) for place in places]


ORIENTATIONS = list(itertools.product((0, 90, 180, 270), (False, True)))


def upright(image: np.ndarray, rotation: int, mirrored: bool) -> np.ndarray:
    turned = np.rot90(image, rotation // 90)
    return turned[:, ::-1] if mirrored else turned


@pytest.mark.parametrize(("rotation", "mirrored"), ORIENTATIONS)
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_all_eight_orientations_stand_upright(tmp_path: Path, suffix: str, rotation: int, mirrored: bool):
    path = turned_film(tmp_path / f"a{suffix}", rotation, mirrored)
    with av.open(str(path)) as container:
        written = any(kind.type.name == "DISPLAYMATRIX" for kind in next(container.decode(video=0)).side_data)
    if (rotation or mirrored) and not written:
        pytest.skip("this container does not keep the mirror")
    told, clip = probe(path).video, read_clip(path, fps=25)
    assert told is not None and clip.frames is not None
    assert ("rotated" in clip.issues, "mirrored" in clip.issues) == (told.rotation != 0, told.mirrored)
    assert tuple(clip.frames.shape[2:]) == told.shown_size
    seen = clip.frames[0].permute(1, 2, 0).numpy()
    assert corners(seen) == corners(upright(QUARTERS, told.rotation, told.mirrored))
    if shutil.which("ffmpeg"):
        theirs = shown_by_ffmpeg(path, *seen.shape[:2])
        assert corners(seen) == corners(theirs[0])


def test_every_matrix_is_another_picture(tmp_path: Path):
    found = set()
    for k, (rotation, mirrored) in enumerate(ORIENTATIONS):
        found.add(str(corners(frames_of(turned_film(tmp_path / f"{k}.mp4", rotation, mirrored))[0])))
    assert len(found) == 8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_stills_stand_as_their_exif_record_says(kind: str, orientation: int):
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(QUARTERS).save(file, kind, exif=exif, quality=95)
    meant = np.asarray(ImageOps.exif_transpose(Image.open(file)).convert("RGB"))
    clip = read_clip(file.getvalue(), times=[0.0])
    assert clip.frames is not None
    seen = clip.frames[0].permute(1, 2, 0).numpy()
    assert seen.shape == meant.shape and corners(seen) == corners(meant)


@needs_ffmpeg
@pytest.mark.parametrize("size", ["1280x720", "1278x718", "320x240", "720x1280"])
@pytest.mark.parametrize("tag", ["", "bt709", "smpte170m"])
@pytest.mark.parametrize("range_", ["tv", "pc"])
def test_colours_are_those_of_the_tag_or_of_what_players_take(tmp_path: Path, size: str, tag: str, range_: str):
    path, (width, height) = tmp_path / "a.mp4", map(int, size.split("x"))
    tagged = ("-colorspace", tag) if tag else ()
    full = f"scale=out_range={range_}"
    source = ("-f", "lavfi", "-i", f"smptehdbars=size={size}:rate=25")
    ffmpeg(*source, "-vf", full, "-frames:v", "1", *X264, "-color_range", range_, *tagged, path)
    hd = width >= 1280 or height >= 720
    matrix = {"": "bt709" if hd else "bt601", "smpte170m": "bt601"}.get(tag, tag)
    theirs = shown_by_ffmpeg(path, height, width, f"scale=in_color_matrix={matrix}:in_range={range_}")
    clip = read_clip(path, times=[0.0])
    assert clip.frames is not None and ("assumed_bt709" in clip.issues) == (hd and not tag)
    ours = clip.frames.permute(0, 2, 3, 1).numpy()
    assert difference(ours, theirs) < 1
    other = shown_by_ffmpeg(path, height, width, f"scale=in_color_matrix={'bt601' if hd else 'bt709'}")
    assert matrix == ("bt601" if hd else "bt709") or difference(ours, other) > 3  # else nothing was told apart


@needs_ffmpeg
@pytest.mark.parametrize("coefficients", range(18))
@pytest.mark.parametrize("size", ["320x240", "1280x720"])
def test_a_colour_tag_of_any_number_costs_neither_video_nor_audio(tmp_path: Path, size: str, coefficients: int):
    """The same pixels under every number that H.273 gives to a matrix, and under some that it reserves."""
    source = ("-f", "lavfi", "-i", f"smptehdbars=size={size}:rate=25:d=0.04", "-f", "lavfi", "-i", "sine=d=0.1")
    tag = ("-bsf:v", f"h264_metadata=matrix_coefficients={coefficients}")
    ffmpeg(*source, *X264, tmp_path / "untagged.mp4")
    ffmpeg("-i", tmp_path / "untagged.mp4", "-c", "copy", *tag, tmp_path / "a.mkv")
    plain, clip = (read_clip(tmp_path / name, frames=1) for name in ("untagged.mp4", "a.mkv"))
    assert plain.frames is not None and clip.frames is not None and clip.waveform is not None
    known = coefficients in (1, 4, 5, 6, 7, 9)
    assert known or bool((clip.frames == plain.frames).all())
    if coefficients < 15:  # what later numbers mean depends on FFmpeg's version
        assert ("unknown_matrix" in clip.issues) == (coefficients >= 8 and not known)


def test_pictures_of_jpegs_are_not_taken_for_bt709():
    file = io.BytesIO()
    Image.new("RGB", (1280, 720), (200, 60, 60)).save(file, "JPEG", quality=95)
    clip = read_clip(file.getvalue(), times=[0.0])
    assert clip.frames is not None and "assumed_bt709" not in clip.issues
    np.testing.assert_allclose(clip.frames[0, :, 300, 600], (200, 60, 60), atol=3)


HABLE = (
    "zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=hable:desat=0,zscale=t=bt709:m=bt709:r=tv,"
    "format=yuv444p,scale=in_color_matrix=bt709"
)


@needs_ffmpeg
@pytest.mark.parametrize("kind", HDR)
def test_hdr_is_tone_mapped_as_ffmpeg_does_it(tmp_path: Path, kind: str):
    path = hdr_film(tmp_path / "a.mp4", kind)
    clip, plain = read_clip(path, fps=25), read_clip(path, fps=25, hdr="as_is")
    assert {"hdr", "tonemapped"} <= set(clip.issues) and set(plain.issues) & {"hdr", "tonemapped"} == {"hdr"}
    theirs = shown_by_ffmpeg(path, 180, 320, HABLE)
    mapped, as_is = frames_of(path), frames_of(path, hdr="as_is")
    print(kind, difference(mapped, theirs), difference(as_is, theirs))
    assert difference(mapped, theirs) < 4 < 15 < difference(as_is, theirs)


@needs_ffmpeg
def test_greys_of_hdr_rise_and_keep_their_colour(tmp_path: Path):
    path = hdr_film(
        tmp_path / "a.mp4", "pq", "gradients=size=320x180:rate=25:c0=black:c1=white:x0=0:y0=0:x1=319:y1=0:n=2"
    )
    row = frames_of(path)[0][90].astype(int)
    assert np.ptp(row, axis=1).max() <= 6  # grey stays grey
    assert (np.diff(np.convolve(row.mean(axis=1), np.ones(16) / 16, "valid")) > -0.5).all() or (
        np.diff(np.convolve(row.mean(axis=1), np.ones(16) / 16, "valid")) < 0.5
    ).all()
    assert np.ptp(row.mean(axis=1)) > 100


def combs(images: np.ndarray) -> float:
    """How much lines differ from those beside them, against those two away."""
    rows = images.astype(float).mean(axis=3)
    middle, near, far = rows[:, 2:-2], (rows[:, 1:-3] + rows[:, 3:-1]) / 2, (rows[:, :-4] + rows[:, 4:]) / 2
    return float(np.maximum(np.abs(middle - near) - np.abs(middle - far), 0).mean())


@needs_ffmpeg
def test_interlaced_video_is_deinterlaced_as_ffmpeg_does_it(tmp_path: Path):
    path = interlaced_film(tmp_path / "a.mp4")
    clip, plain = read_clip(path, fps=25), read_clip(path, fps=25, deinterlace=False)
    assert {"interlaced", "deinterlaced"} <= set(clip.issues)
    assert set(plain.issues) & {"interlaced", "deinterlaced"} == {"interlaced"}
    theirs = shown_by_ffmpeg(path, 288, 352, "estdif=mode=frame")
    ours, woven = frames_of(path), frames_of(path, deinterlace=False)
    assert difference(ours, theirs) < 0.2 < 0.5 < difference(woven, theirs)
    assert combs(ours) < 0.5 * combs(woven)
    small = frames_of(path, size=(96, 120))
    scaled = shown_by_ffmpeg(path, 96, 120, "bwdif=mode=send_frame,scale=120:96:flags=area")
    assert difference(small, scaled) < 3


@needs_ffmpeg
@pytest.mark.parametrize("make", [interlaced_film, lambda path: hdr_film(path, "pq")], ids=["interlaced", "hdr"])
@pytest.mark.parametrize("size", [None, (48, 64)])
def test_however_a_frame_is_reached_it_is_the_same(tmp_path: Path, make: Callable[[Path], Path], size):
    path = make(tmp_path / "a.mp4")
    every = frames_of(path, size=size)
    for k in range(0, len(every), 3):
        (one,) = read_clip(path, times=[(k + 0.5) / 25], size=size, audio=False).frames.permute(0, 2, 3, 1).numpy()
        np.testing.assert_array_equal(one, every[k])
    windows = [window.frames for window in iter_windows(path, 0.2, fps=25, size=size) if window.frames is not None]
    np.testing.assert_array_equal(np.concatenate([part.permute(0, 2, 3, 1).numpy() for part in windows]), every)


@needs_ffmpeg
@pytest.mark.parametrize(("size", "fit"), [(None, "stretch"), ((200, 200), "crop"), ((200, 200), "pad")])
def test_circles_are_round(tmp_path: Path, size, fit):
    path = circle(tmp_path / "a.mp4")
    assert abs(roundness(frames_of(path, size=size, fit=fit)[0]) - 1) < 0.02
    told = probe(path).video
    assert told is not None and told.shown_size == (576, 1024) and (told.width, told.height) == (720, 576)


def test_wrong_values_are_refused(tmp_path: Path):
    path = movie(tmp_path / "a.mp4", count=3)
    with pytest.raises(ValueError, match="hdr must be one of tonemap, as_is"):
        read_clip(path, frames=1, hdr="sdr")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="deinterlace must be True or False"):
        Request(frames=1, deinterlace="no")  # type: ignore[arg-type]


def test_what_is_written_here_is_read_in_its_colours(tmp_path: Path):
    """Large pictures too, which would be taken for BT.709 if they were not tagged."""
    picture = np.full((2, 720, 1280, 3), (200, 60, 60), np.uint8)
    write_video(tmp_path / "a.mp4", picture, 25, options={"crf": "4"})
    clip = read_clip(tmp_path / "a.mp4", frames=1)
    assert clip.frames is not None and "assumed_bt709" not in clip.issues and indices(clip.frames)
    np.testing.assert_allclose(clip.frames[0, :, 300, 600], (200, 60, 60), atol=4)
