"""A survey of one file: what it measures, at which depth, and that its answer from another process can be trusted."""

from __future__ import annotations

import os
import signal
import wave
from pathlib import Path

import numpy as np
import pytest
from media_clips import movie

from mmattn.errors import MediaError
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.survey.measures import AudioMeasures, PacketTimes, picture_hash, sound_hash
from mmattn.media.survey.passes import survey
from mmattn.media.survey.record import Survey


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return movie(tmp_path_factory.mktemp("survey") / "a.mp4")


def test_each_depth_adds_to_the_one_before(good: Path):
    header, sample, full = (survey(good, depth) for depth in ("header", "sample", "full"))
    assert (header.video_codec, header.audio_codec, header.frames, header.loudness) == ("h264", "aac", None, None)
    assert (sample.frames, sample.seen) == (25, 8)
    assert (full.frames, full.seen) == (25, 25)
    assert sample.measured_duration == pytest.approx(1.0, abs=0.05)
    assert sample.loudness == pytest.approx(0.5 / np.sqrt(2), rel=0.05), "a sine of amplitude 0.5"
    assert full.loudness == pytest.approx(sample.loudness, rel=0.02)
    assert sample.change == pytest.approx(full.change, abs=0.1) and sample.change > 0.5
    assert sample.av_offset == pytest.approx(0.0, abs=0.05)
    for depth in (header, sample, full):
        assert Survey.from_dict(depth.to_dict()) == depth


def test_what_ends_after_its_header_keeps_the_header(tmp_path: Path):
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)
    found = survey(tmp_path / "a.wav", "sample")
    assert (found.audio_codec, found.channels, found.reason) == ("pcm_s16le", 2, "truncated")
    assert survey(tmp_path / "a.wav", "header").reason is None


def test_another_process_tells_the_same_and_its_death_costs_nothing(good: Path):
    with IsolatedReader(deadline_s=20.0) as reader:
        assert reader.survey(good, "sample") == survey(good, "sample")
        os.kill(reader.worker_pid, signal.SIGSEGV)
        assert reader.survey(good, "header").video_codec == "h264"
        with pytest.raises(MediaError, match="not_media"):
            reader.survey(b"text", "sample")


@pytest.mark.parametrize(
    "wrong",
    [
        {"container": None},
        {"streams": "2"},
        {"duration": "long"},
        {"loudness": float("nan")},
        {"issues": "hdr"},
        {"issues": [1]},
        {"reason": "<script>"},
        {"variable_rate": 1.5},
    ],
    ids=str,
)
def test_an_answer_of_another_kind_is_refused(wrong: dict):
    right = Survey("mp4", 2).to_dict()
    assert Survey.from_dict(right | {"unknown": 1}) == Survey("mp4", 2)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Survey.from_dict(right | wrong)


@pytest.mark.parametrize(
    ("times", "variable"),
    [
        (np.arange(100) / 25, False),
        (np.round(np.arange(100) / 24, 3), False),  # a container that rounds to ms
        (np.delete(np.arange(100) / 25, 50), False),  # one frame dropped
        (np.delete(np.arange(100) / 25, slice(10, 60, 5)), True),
        (np.cumsum(np.tile([0.02, 0.06], 50)), True),
        (np.zeros(100), None),
        (np.zeros(1), None),
    ],
)
def test_uneven_frames(times: np.ndarray, variable: bool | None):
    packets = PacketTimes(tick=0.001)
    for time in times:
        packets.add("video", float(time), 0.04)
    assert packets.measures().get("variable_rate") is variable


def test_loudness_is_that_of_the_loudest_tenth_of_a_second():
    heard = AudioMeasures()
    quiet, loud = np.full(16000, 0.001, np.float32), np.full(1600, 0.5, np.float32)
    heard.add(np.concatenate([quiet, loud, quiet]), 16000)
    assert heard.measures()["loudness"] == pytest.approx(0.5)
    assert heard.seconds == pytest.approx(2.1)


def test_a_picture_hash_survives_brightness_and_noise_and_not_another_picture():
    rng = np.random.default_rng(0)
    picture = rng.uniform(40, 200, (8, 9)).repeat(4, 0).repeat(4, 1)[..., None].repeat(3, 2)
    other = rng.uniform(40, 200, (8, 9)).repeat(4, 0).repeat(4, 1)[..., None].repeat(3, 2)

    def apart(a: np.ndarray, b: np.ndarray) -> int:
        return (int(picture_hash(a), 16) ^ int(picture_hash(b), 16)).bit_count()

    assert apart(picture, 0.7 * picture + 10) == 0
    assert apart(picture, picture + rng.normal(0, 4, picture.shape)) <= 2
    assert apart(picture, other) > 16
    assert picture_hash(np.full((32, 36, 3), 99)) == "0" * 16, "nothing to tell apart"


def test_a_sound_hash_survives_loudness_and_not_another_sound():
    rng = np.random.default_rng(0)
    sound, other = (np.repeat(rng.uniform(0.1, 1, 40), 400) * rng.choice([-1, 1], 16000) for _ in range(2))

    def apart(a: np.ndarray, b: np.ndarray) -> int:
        return (int(sound_hash(a), 16) ^ int(sound_hash(b), 16)).bit_count()

    assert apart(sound, 0.3 * sound) == 0
    assert apart(sound, other) > 6
    assert sound_hash(np.zeros(16000)) == "0" * 8 == sound_hash(sound[:5])
