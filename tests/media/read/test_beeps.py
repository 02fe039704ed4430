"""Sample n is at its time: beeps in every container, read whole, in spans and in windows, and across gaps."""

from pathlib import Path

import numpy as np
import pytest
from media_beeps import BEEPS, beep_file, decoded_plainly, heard_at, restamped

from mmattn.media.read.decode import read_clip
from mmattn.media.read.windows.iterate import iter_windows

EXACT = [  # lossless
    ("wav", "pcm_s16le", 44100, None), ("aiff", "pcm_s16be", 44100, None), ("caf", "pcm_s16be", 48000, None),
    ("au", "pcm_s16be", 44100, None), ("w64", "pcm_s16le", 48000, None), ("flac", "flac", 44100, None),
    ("wv", "wavpack", 44100, None), ("tta", "tta", 48000, None), ("m4a", "alac", 44100, None),
    ("mkv", "pcm_s16le", 48000, "mpeg4"), ("mkv", "flac", 44100, "mpeg4"), ("mka", "pcm_s16le", 44100, None),
    ("flv", "pcm_s16le", 44100, None), ("avi", "pcm_s16le", 44100, "mpeg4"), ("mov", "pcm_s16le", 48000, "mpeg4"),
    ("ogg", "flac", 44100, None),
]  # fmt: skip
LOSSY = [
    ("mp3", "libmp3lame", 44100, None), ("aac", "aac", 44100, None), ("m4a", "aac", 44100, None),
    ("mp4", "aac", 48000, "mpeg4"), ("mp4", "libmp3lame", 44100, "mpeg4"), ("mp4", "libopus", 48000, "mpeg4"),
    ("mkv", "aac", 48000, "mpeg4"), ("mkv", "aac", 44100, "mpeg4"), ("mkv", "libmp3lame", 44100, "mpeg4"),
    ("mkv", "ac3", 44100, "mpeg4"), ("mkv", "vorbis", 44100, "mpeg4"), ("webm", "libopus", 48000, None),
    ("webm", "vorbis", 48000, None), ("ogg", "vorbis", 48000, None), ("ogg", "vorbis", 44100, None),
    ("opus", "libopus", 48000, None), ("flv", "aac", 44100, None), ("flv", "libmp3lame", 44100, None),
    ("wma", "wmav2", 44100, None), ("wma", "wmav2", 48000, None), ("ts", "aac", 44100, "mpeg2video"),
    ("ts", "ac3", 44100, "mpeg2video"), ("ts", "mp2", 48000, None), ("mpg", "mp2", 44100, "mpeg2video"),
    ("avi", "libmp3lame", 44100, "mpeg4"), ("avi", "ac3", 48000, "mpeg4"), ("ac3", "ac3", 44100, None),
    ("eac3", "eac3", 44100, None), ("rm", "ac3", 44100, None),
]  # fmt: skip
RATE = 48000
IDS = "{0[0]}-{0[1]}-{0[2]}".format


def delays(wave: np.ndarray, rate: int, start: float = 0.0, within: int = 200) -> list[int]:
    found = [heard_at(wave, rate, float(at) - start, within) for at in BEEPS if at > start]
    return [delay for delay in found if delay is not None]


@pytest.mark.parametrize("kind", EXACT, ids=IDS)
@pytest.mark.parametrize("rate", [RATE, 16000])
def test_every_beep_is_at_its_time(tmp_path: Path, kind: tuple, rate: int):
    path = beep_file(tmp_path / f"a.{kind[0]}", *kind[1:])
    heard = delays(read_clip(path, video=False, audio_rate=rate).waveform.numpy(), rate)
    assert len(heard) > 30 and max(map(abs, heard)) <= 1


@pytest.mark.parametrize("kind", LOSSY, ids=IDS)
def test_a_lossy_sound_lies_where_ffmpeg_puts_it(tmp_path: Path, kind: tuple):
    path = beep_file(tmp_path / f"a.{kind[0]}", *kind[1:])
    plain, first, rate = decoded_plainly(path)
    clip = read_clip(path, video=False, audio_rate=None)
    assert clip.sample_rate == rate
    at, heard = round(first * rate), clip.waveform.numpy()
    slack = rate // 1000 if kind[1] == "vorbis" and first else 1  # there the first stamp, in ms, is one of many
    shifts = range(max(at - slack, 0), at + slack + 1)
    count = min(len(plain), len(heard) - at - slack)
    assert count > 7 * rate
    assert min(np.abs(heard[s : s + count] - plain[:count]).max() for s in shifts) < 1e-4


@pytest.mark.parametrize("kind", EXACT + LOSSY, ids=IDS)
def test_spans_and_windows_are_parts_of_the_whole(tmp_path: Path, kind: tuple):
    path = beep_file(tmp_path / f"a.{kind[0]}", *kind[1:])
    whole = read_clip(path, video=False, audio_rate=RATE).waveform.numpy()
    spans = np.random.default_rng(len(kind[0])).uniform(0.2, 6.0, 4)
    parts = [(s, read_clip(path, video=False, audio_rate=RATE, start=s, end=s + 1.3)) for s in (2.1, *spans)]
    parts += [(0.9 * k, clip) for k, clip in enumerate(iter_windows(path, 1.7, 0.9, video=False, audio_rate=RATE))]
    for start, clip in parts:
        if clip.waveform is None:
            continue
        part, first = clip.waveform.numpy(), round(start * RATE)
        count = min(len(part), len(whole) - first)
        if kind[1] == "vorbis" and kind[0] in ("mkv", "webm"):  # known to a sample, not to a part of one
            assert (
                min(np.abs(part[1 : count - 1] - whole[first + k : first + k + count - 2]).max() for k in (0, 1, 2))
                < 0.1
            )
        else:
            fraction = abs(start * RATE - first)  # of a sample: the span does not begin on the whole's grid
            assert np.abs(part[:count] - whole[first : first + count]).max() < 0.002 + 0.2 * fraction


@pytest.mark.parametrize(
    "kind",
    [
        ("mkv", "pcm_s16le", 48000),
        ("mka", "pcm_s16le", 44100),
        ("flv", "pcm_s16le", 44100),
        ("m4a", "alac", 44100),
        ("ogg", "flac", 48000),
        ("nut", "pcm_s16le", 48000),
    ],
    ids=IDS,
)
@pytest.mark.parametrize("gap_s", [0.005, 0.01, 0.02, 0.035, -0.01])
def test_small_gaps_move_what_follows_and_nothing_else(tmp_path: Path, kind: tuple, gap_s: float):
    container, codec, rate = kind
    source = beep_file(tmp_path / f"a.{container}", codec, rate)
    path = restamped(source, tmp_path / f"b.{container}", lambda time: gap_s * (time >= 4.0))
    clip = read_clip(path, video=False, audio_rate=RATE)
    assert ("gap" if gap_s > 0 else "overlap") in clip.issues
    wave = clip.waveform.numpy()
    heard = [heard_at(wave, RATE, at + gap_s * (at > 4.1)) for at in BEEPS if not 3.9 < at < 4.2]
    assert max(abs(delay) for delay in heard if delay is not None) <= 1
    for start in (3.5, 4.3, 6.1):
        part = read_clip(path, video=False, audio_rate=RATE, start=start, end=start + 1).waveform.numpy()
        lag = [
            abs(heard_at(part, RATE, at + gap_s * (at > 4.1) - start) or 0)
            for at in BEEPS
            if start + 0.1 < at < start + 0.9 and not 3.9 < at < 4.2
        ]
        assert max(lag) <= 3  # a second of stamps rounded to ms tells no better


def test_a_steady_sound_with_jittered_stamps_is_not_cut(tmp_path: Path):
    rng = np.random.default_rng(0)
    source = beep_file(tmp_path / "a.mka", "pcm_s16le", 48000)
    path = restamped(source, tmp_path / "b.mka", lambda time: rng.uniform(-0.005, 0.005) if time else 0.0)
    clip = read_clip(path, video=False, audio_rate=RATE)
    assert not set(clip.issues) & {"gap", "overlap"}
    assert max(map(abs, delays(clip.waveform.numpy(), RATE))) <= 1


def test_a_jittered_sound_still_has_its_gap(tmp_path: Path):
    rng = np.random.default_rng(0)
    source = beep_file(tmp_path / "a.mka", "pcm_s16le", 48000)
    jitter = lambda time: rng.uniform(-0.005, 0.005) if time else 0.0  # noqa: E731
    path = restamped(source, tmp_path / "b.mka", lambda time: jitter(time) + 0.035 * (time >= 4))
    wave = read_clip(path, video=False, audio_rate=RATE).waveform.numpy()
    heard = [heard_at(wave, RATE, at + 0.035, 300) for at in BEEPS if at > 4.2]
    assert max(abs(delay) for delay in heard if delay is not None) <= 0.001 * RATE


@pytest.mark.parametrize("drift", [1e-3, -1e-3, 1e-4])
def test_a_drifting_clock_is_followed_within_a_tick(tmp_path: Path, drift: float):
    source = beep_file(tmp_path / "a.mka", "pcm_s16le", 48000)
    path = restamped(source, tmp_path / "b.mka", lambda time: drift * time)
    wave = read_clip(path, video=False, audio_rate=RATE).waveform.numpy()
    heard = [heard_at(wave, RATE, at * (1 + drift)) for at in BEEPS]
    assert max(abs(delay) for delay in heard if delay is not None) <= 0.0015 * RATE  # a tick is 1 ms


def test_a_lost_packet_leaves_its_length(tmp_path: Path):
    source = beep_file(tmp_path / "a.mka", "pcm_s16le", 48000)  # packets of 21.3 ms
    path = restamped(source, tmp_path / "b.mka", lambda time: 0.0 if time < 4 else 1024 / 48000)
    wave = read_clip(path, video=False, audio_rate=RATE).waveform.numpy()
    heard = [heard_at(wave, RATE, at + 1024 / 48000) for at in BEEPS if at > 4.2]
    assert max(abs(delay) for delay in heard if delay is not None) <= 1
