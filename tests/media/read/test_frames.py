"""read_clip's pictures: the frame shown at each grid time, as a slow decode of everything would find it."""

from pathlib import Path

import av
import numpy as np
import pytest
from media_clips import indices, movie, muxed, numbered

from mmattn.media.read.decode import read_clip
from mmattn.media.read.grid import fps_grid, uniform_grid
from mmattn.media.write.video import write_video


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return movie(tmp_path_factory.mktemp("plain") / "a.mp4")


def test_every_frame_of_a_file_with_b_frames_in_order(plain: Path):
    assert indices(read_clip(plain, fps=25).frames) == list(range(25))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_a_native_grid_hits_each_frame_in_every_container(tmp_path: Path, suffix: str):
    path = tmp_path / f"a{suffix}"
    write_video(path, numbered(24), 24)  # Matroska rounds k/24 to a millisecond
    assert indices(read_clip(path, fps=24).frames) == list(range(24))


def test_the_frame_shown_is_the_last_one_not_after_t(plain: Path):
    clip = read_clip(plain, times=[0.0, 0.039, 0.04, 0.0799, 0.5, 0.999, 1.0, 7.0])
    assert indices(clip.frames) == [0, 0, 1, 1, 12, 24]
    assert clip.frame_times.tolist() == [0.0, 0.039, 0.04, 0.0799, 0.5, 0.999]


def test_a_uniform_grid_takes_the_centres_of_equal_bins(plain: Path):
    clip = read_clip(plain, frames=5)
    np.testing.assert_allclose(clip.frame_times, [0.1, 0.3, 0.5, 0.7, 0.9])
    assert indices(clip.frames) == [2, 7, 12, 17, 22]


def test_a_span_beyond_the_picture_gives_fewer_frames(plain: Path):
    assert len(read_clip(plain, frames=8, start=0.0, end=2.0).frames) == 4
    clip = read_clip(plain, frames=8, start=5.0, end=6.0)
    assert clip.frames is None and clip.waveform is None and {"no_frames", "no_samples"} <= set(clip.issues)


def test_variable_frame_durations(tmp_path: Path):
    path = muxed(tmp_path / "a.mkv", picture_pts=[0, 10, 200, 210, 900, 1000])
    clip = read_clip(path, times=[0.0, 0.005, 0.1, 0.205, 0.5, 0.95, 1.01])
    assert indices(clip.frames) == [0, 0, 1, 2, 3, 4, 5]


def test_times_are_counted_from_the_first_stamp(tmp_path: Path):
    path = muxed(tmp_path / "a.mkv", picture_pts=list(range(2000, 2400, 40)))
    assert indices(read_clip(path, times=[0.0, 0.1, 0.2]).frames) == [0, 2, 5]


def test_a_picture_that_comes_late_shows_its_first_frame_before(tmp_path: Path):
    sound = np.full((1, 16000), 0.1, np.float32)
    path = muxed(tmp_path / "a.mkv", picture_pts=[500, 540, 580], sounds=[(0.0, sound)])
    assert indices(read_clip(path, times=[0.0, 0.5, 0.545, 0.6]).frames) == [0, 0, 1, 2]


@pytest.mark.parametrize(("rotation", "shape"), [(90, (48, 32)), (180, (32, 48)), (270, (48, 32))])
def test_rotation_makes_the_picture_upright(tmp_path: Path, rotation: int, shape: tuple[int, int]):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.set_display_rotation(rotation)
        picture = np.zeros((32, 48, 3), np.uint8)
        picture[:16, :24] = 255  # top left as stored
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    clip = read_clip(path, times=[0.0])
    assert tuple(clip.frames.shape[2:]) == shape and "rotated" in clip.issues
    expected = np.rot90(picture, rotation // 90).transpose(2, 0, 1)
    assert np.abs(clip.frames[0].numpy().astype(int) - expected).mean() < 8
    small = read_clip(path, times=[0.0], size=(16, 24)).frames[0].numpy().astype(int)
    row, column = np.argwhere(expected[0, :: shape[0] // 2, :: shape[1] // 2] == 255)[0]
    assert small[0, 4 + 8 * row, 6 + 12 * column] > 200 > 50 > small[0, 12 - 8 * row, 18 - 12 * column]


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_fit_gives_the_size_asked_for(plain: Path, fit):
    frame = read_clip(plain, times=[0.96], size=(24, 24), fit=fit).frames[0]
    assert frame.shape == (3, 24, 24)
    borders = frame[:, [0, -1]].float().mean()
    assert borders == 0 if fit == "pad" else borders > 150


def test_repeated_grid_times_repeat_the_frame(plain: Path):
    assert indices(read_clip(plain, times=[0.1, 0.1, 0.11]).frames) == [2, 2, 2]


def test_a_far_start_gives_the_frames_of_a_full_decode(tmp_path: Path):
    path, rng = tmp_path / "a.mp4", np.random.default_rng(0)
    frames = rng.integers(0, 255, (60, 4, 6, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    write_video(path, frames, 2, np.zeros(30 * 16000, np.float32), options={"g": "10", "bf": "3"})
    whole = read_clip(path, fps=2)
    part = read_clip(path, fps=2, start=21.0, end=26.0)
    assert (part.frames == whole.frames[42:52]).all()
    assert "sequential_fallback" not in part.issues


def test_a_picture_without_sound_and_sound_without_picture(tmp_path: Path):
    write_video(tmp_path / "v.mp4", numbered(3), 25)
    clip = read_clip(tmp_path / "v.mp4", frames=2)
    assert clip.waveform is None and len(clip.frames) == 2
    write_video(tmp_path / "a.mp4", None, 25, np.full(1600, 0.1, np.float32))
    clip = read_clip(tmp_path / "a.mp4", frames=2)
    assert clip.frames is None and len(clip.frame_times) == 0 and len(clip.waveform) >= 1600


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"fps": 1.0, "frames": 2},
        {"fps": 0.0},
        {"frames": 0},
        {"times": [0.2, 0.1]},
        {"times": [float("nan")]},
        {"frames": 1, "start": -1.0},
        {"frames": 1, "start": 2.0, "end": 1.0},
        {"frames": 1, "size": (0, 5)},
        {"frames": 1, "fit": "bend"},
        {"frames": 1, "audio_rate": 0},
        {"video": False, "audio": False},
    ],
)
def test_a_wrong_question_is_a_value_error(plain: Path, wrong: dict):
    with pytest.raises(ValueError):
        read_clip(plain, **wrong)


def test_grids():
    np.testing.assert_allclose(uniform_grid(2, 1.0, 3.0), [1.5, 2.5])
    assert fps_grid(25, 0.0, 1.0).tolist() == [k / 25 for k in range(25)]
    assert len(uniform_grid(3, 1.0, 1.0)) == len(fps_grid(3.0, 1.0, 0.5)) == 0
