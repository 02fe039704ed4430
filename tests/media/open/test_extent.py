"""Where a file ends and what lies before that, whatever its header and its clock say."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from media_clips import indices, movie, tone

from mmattn.errors import MediaError
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.open.container import Limits
from mmattn.media.read.decode import read_clip
from mmattn.media.read.request import Request
from mmattn.media.read.windows.iterate import iter_windows
from mmattn.media.survey.passes import survey
from mmattn.media.survey.probe import probe

COUNT, FPS = 28, 7
SECONDS = COUNT / FPS


class Pipe:
    """Takes bytes and lets nobody go back to what was written."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, part: bytes) -> int:
        self.data += part
        return len(part)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return movie(tmp_path_factory.mktemp("film") / "a.mp4", COUNT, FPS)


def packets_in(
    film: Path, container: str, kinds: tuple[str, ...], shift_s: float = 0.0, sized: bool = False, **options: str
) -> bytes:
    """The packets of `film` as a pipe would have got them, or `sized` a file; their stamps `shift_s` later."""
    pipe = io.BytesIO() if sized else Pipe()
    with av.open(str(film)) as source, av.open(pipe, "w", format=container, options=options) as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams if s.type in kinds}
        for packet in source.demux([source.streams[index] for index in streams]):
            if packet.size:
                shift = round(shift_s / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    return pipe.getvalue() if isinstance(pipe, io.BytesIO) else bytes(pipe.data)


def sound_in(container: str, codec: str, rate: int = 16000, **options: str) -> bytes:
    """SECONDS of a tone, in stereo, as a pipe would have got it."""
    pipe = Pipe()
    with av.open(pipe, "w", format=container, options=options) as target:
        stream = target.add_stream(codec, rate=rate, options={"strict": "experimental"})
        stream.codec_context.layout = "stereo"
        samples = np.stack([tone(SECONDS, rate)] * 2)
        size = 64 if codec == "vorbis" else 1152
        kind = stream.codec_context.format
        resampler = av.AudioResampler(format=kind, layout="stereo", rate=rate, frame_size=size)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            target.mux(stream.encode(part))
    return bytes(pipe.data)


BOTH, HEARD = ("video", "audio"), ("audio",)
FILMS = [("matroska", BOTH), ("flv", BOTH), ("mpegts", BOTH), ("adts", HEARD), ("h264", ("video",))]
SOUNDS = [
    ("flac", "flac"),
    ("ogg", "flac"),
    ("mp3", "libmp3lame"),
    ("wav", "pcm_s16le"),
    ("avi", "pcm_s16le"),
    ("caf", "pcm_s16le"),
]


def demand_its_end(data: bytes) -> None:
    told = probe(data)
    clip = read_clip(data, fps=FPS)
    assert told.duration == pytest.approx(SECONDS, abs=0.2)
    if told.video is not None:
        assert set(indices(clip.frames)) == set(range(COUNT))
    if told.audio is not None:
        assert len(clip.waveform) / clip.sample_rate == pytest.approx(SECONDS, abs=0.2)
        late = clip.waveform[-clip.sample_rate : -clip.sample_rate // 4]
        assert float(late.square().mean()) > 0.05  # sounds to the end


@pytest.mark.parametrize(("container", "kinds"), FILMS, ids=[name for name, _ in FILMS])
def test_a_piped_film_ends_where_its_packets_do(film: Path, container: str, kinds: tuple[str, ...]):
    demand_its_end(packets_in(film, container, kinds))


@pytest.mark.parametrize(("container", "codec"), SOUNDS, ids=[name for name, _ in SOUNDS])
def test_a_piped_sound_ends_where_its_packets_do(container: str, codec: str):
    demand_its_end(sound_in(container, codec, **({"write_xing": "0"} if container == "mp3" else {})))


def test_sounds_joined_in_ogg_are_heard_one_after_the_other():
    joined = read_clip(3 * sound_in("ogg", "flac"), video=False)
    assert "clock_jump" in joined.issues
    assert len(joined.waveform) / joined.sample_rate == pytest.approx(3 * SECONDS, abs=0.3)


def test_sounds_joined_in_flac_end_where_the_last_does(tmp_path: Path):
    with av.open(str(tmp_path / "a.flac"), "w") as target:  # a file, whose header says how many samples it has
        stream = target.add_stream("flac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray((tone(SECONDS, 16000) * 30000).astype(np.int16)[None], "s16", "mono")
        frame.sample_rate = 16000
        target.mux(stream.encode(frame) + stream.encode(None))
    joined = 3 * (tmp_path / "a.flac").read_bytes()
    assert probe(joined).duration == pytest.approx(3 * SECONDS, abs=0.7)
    clip = read_clip(joined, video=False)
    assert len(clip.waveform) / clip.sample_rate == pytest.approx(3 * SECONDS, abs=0.3)


def test_the_end_is_measured_once_it_is_asked_for(film: Path, tmp_path: Path):
    path = tmp_path / "a.mkv"
    path.write_bytes(packets_in(film, "matroska", BOTH))
    asked = Request(times=[0.0], end=0.5, measure_end=True)
    with IsolatedReader() as reader:
        assert reader.read(path, asked).duration == pytest.approx(SECONDS, abs=0.1)
        assert reader.survey(path, "header").duration == pytest.approx(SECONDS, abs=0.1)
        path.write_bytes(packets_in(film, "matroska", BOTH)[: path.stat().st_size // 2])
        assert reader.read(path, asked).duration < 0.8 * SECONDS  # another file by now
    assert read_clip(path, times=[0.0], end=0.5).duration is None
    assert read_clip(film, times=[0.0], end=0.5).duration == pytest.approx(SECONDS, abs=0.1)  # costs nothing


def test_an_end_beyond_the_limit_is_too_long(film: Path):
    with pytest.raises(MediaError, match="too_long"):
        probe(packets_in(film, "matroska", BOTH), limits=Limits(duration_s=2.0))


JOINED = [("mpegts", shifts) for shifts in ((0, 0), (0, 900), (900, 0), (0, 100000), (50, 20, 700))]
JOINED += [("matroska", (0, 0)), ("matroska", (0, 0, 0)), ("matroska", (0,) * 5)]


@pytest.mark.parametrize("sized", [False, True], ids=["piped", "sized"])
@pytest.mark.parametrize(("container", "shifts"), JOINED, ids=str)
def test_joined_recordings_are_read_one_after_the_other(
    film: Path, container: str, shifts: tuple[int, ...], sized: bool
):
    if sized and container == "mpegts":
        pytest.skip("a transport stream has no header that says its size")
    data = b"".join(packets_in(film, container, BOTH, shift, sized) for shift in shifts)
    clip = read_clip(data, fps=FPS)
    assert "truncated" not in clip.issues
    length = len(shifts) * SECONDS
    assert "clock_jump" in clip.issues
    seen = indices(clip.frames)
    assert sum(seen.count(k) >= len(shifts) for k in range(COUNT)) >= COUNT - 1
    assert probe(data).duration == pytest.approx(length, abs=0.2 * len(shifts))
    assert len(clip.waveform) / clip.sample_rate == pytest.approx(length, abs=0.2 * len(shifts))
    blocks = clip.waveform[: len(clip.waveform) // 1600 * 1600].reshape(-1, 1600).square().mean(dim=1)
    assert float((blocks > 0.05).float().mean()) > 0.9
    windows = list(iter_windows(data, 1.0, fps=FPS))
    assert len(windows) == pytest.approx(length, abs=1)
    assert torch.equal(torch.cat([w.frames for w in windows if w.frames is not None])[: len(seen)], clip.frames)
    found = survey(data, "sample")
    assert found.change > 0.1 and found.loudness > 0.1 and "no_samples" not in found.issues


@pytest.mark.parametrize("rates", [(48000, 22050), (16000, 44100, 8000), (32000, 96000, 32000)], ids=str)
def test_joined_adts_of_other_rates_ends_where_its_audio_does_and_a_span_is_where_it_belongs(rates: tuple[int, ...]):
    data = b"".join(sound_in("adts", "aac", rate) for rate in rates)
    clip = read_clip(data, video=False)
    whole = len(clip.waveform) / clip.sample_rate
    assert whole == pytest.approx(len(rates) * SECONDS, abs=0.3 * len(rates))
    assert probe(data).duration == pytest.approx(whole, abs=0.01)
    assert len(list(iter_windows(data, 1.0, video=False))) == pytest.approx(whole, abs=1)
    for start in (1.0, whole - 1.0):
        part = read_clip(data, video=False, start=start, end=start + 0.5)
        first = round(start * clip.sample_rate)
        same = clip.waveform[first : first + len(part.waveform)]
        assert len(part.waveform) == clip.sample_rate // 2
        assert float((part.waveform - same).abs().max()) < 0.2 * float(same.abs().max())  # less than a sample apart


def test_a_recording_that_was_cut_and_one_after_it_are_both_read(film: Path):
    data = packets_in(film, "matroska", BOTH, sized=True)
    joined = data[: len(data) * 6 // 10] + data
    clip, cut = read_clip(joined, fps=FPS), read_clip(data[: len(data) * 6 // 10], fps=FPS)
    assert "truncated" in cut.issues and "clock_jump" in clip.issues
    assert sum(indices(clip.frames).count(k) > 0 for k in range(COUNT)) >= COUNT - 1
    assert probe(joined).duration == pytest.approx(len(clip.frames) / FPS, abs=0.4)
    assert len(clip.frames) > COUNT + 0.8 * len(cut.frames)


def test_a_span_far_into_joined_recordings_is_where_it_belongs(film: Path, tmp_path: Path):
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(packets_in(film, "mpegts", BOTH, shift) for shift in (0, 500, 0, 90, 0, 0, 3000, 0)))
    whole = read_clip(path, fps=FPS)
    for start in (22.0, 27.0):
        part = read_clip(path, fps=FPS, start=start, end=start + 2)
        first = round(start * FPS)
        assert torch.equal(part.frames, whole.frames[first : first + len(part.frames)])


def test_a_pause_in_matroska_stays_and_its_film_is_neither_still_nor_soundless(film: Path):
    pipe = Pipe()
    with av.open(str(film)) as source, av.open(pipe, "w", format="matroska") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.size:
                late = packet.dts * packet.time_base >= SECONDS / 2
                packet.pts, packet.dts = (
                    stamp + late * round(990 / packet.time_base) for stamp in (packet.pts, packet.dts)
                )
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    found = survey(bytes(pipe.data), "sample")
    assert found.measured_duration == pytest.approx(990 + SECONDS, abs=0.5)
    assert found.change > 0.1 and found.loudness > 0.1 and "no_samples" not in found.issues


def test_a_sound_joined_with_one_of_another_rate_keeps_what_was_decoded():
    first = sound_in("ogg", "vorbis", 44100)
    joined = first + sound_in("ogg", "vorbis", 22050)
    alone = read_clip(first, video=False)
    for clip in (read_clip(joined, video=False), next(iter_windows(joined, 60.0, video=False))):
        assert "read_error" in clip.issues
        assert np.allclose(clip.waveform[: len(alone.waveform)], alone.waveform, atol=1e-4)
    assert probe(joined).duration == pytest.approx(SECONDS, abs=0.1)
    assert "read_error" in survey(joined, "full").issues and survey(joined, "full").reason is None


@pytest.mark.parametrize("codec", ["adpcm_ima_wav", "adpcm_ms"])
@pytest.mark.parametrize("kind", [Pipe, io.BytesIO])
def test_only_a_wav_that_was_cut_is_truncated(codec: str, kind: type):
    """FFmpeg takes the duration of a piped one from its size and a bit rate that is wrong for these codecs."""
    file = kind()
    with av.open(file, "w", format="wav") as target:
        stream = target.add_stream(codec, rate=48000)
        stream.codec_context.layout = "stereo"
        stream.codec_context.bit_rate = 128000  # written into the header, as ffmpeg does
        stream.codec_context.open()
        sizes = stream.codec_context.frame_size
        fit = av.AudioResampler(stream.codec_context.format, "stereo", 48000, frame_size=sizes)
        frame = av.AudioFrame.from_ndarray(np.stack([tone(SECONDS, 48000)] * 2), format="fltp", layout="stereo")
        frame.sample_rate = 48000
        for part in fit.resample(frame):
            target.mux(stream.encode(part))
        target.mux(stream.encode(None))
    data = bytes(file.data) if isinstance(file, Pipe) else file.getvalue()
    assert "truncated" not in read_clip(data, video=False).issues
    assert probe(data).duration == pytest.approx(SECONDS, abs=0.1)
    if kind is io.BytesIO:
        assert "truncated" in read_clip(data[: len(data) // 2], video=False).issues


WHOLE = [("aiff", "pcm_s16be"), ("au", "pcm_s16be"), ("flac", "flac"), ("tta", "tta"), ("wv", "wavpack")]


@pytest.mark.parametrize(("container", "codec"), WHOLE, ids=[name for name, _ in WHOLE])
@pytest.mark.parametrize("share", [0.5, 0.7])
def test_a_sound_that_was_cut_is_truncated_and_ends_where_it_was_cut(container: str, codec: str, share: float):
    file = io.BytesIO()
    with av.open(file, "w", format=container) as target:
        stream = target.add_stream(codec, rate=16000, layout="stereo")
        stream.codec_context.open(strict=False)
        context = stream.codec_context
        noise = np.random.default_rng(0).normal(0, 0.1, (2, 64000)).astype(np.float32)  # packets of equal size
        frame = av.AudioFrame.from_ndarray(noise, format="fltp", layout="stereo")
        frame.sample_rate = 16000
        fit = av.AudioResampler(context.format, "stereo", 16000, frame_size=context.frame_size or 4096)
        for part in [*fit.resample(frame), *fit.resample(None)]:
            target.mux(stream.encode(part))
        target.mux(stream.encode(None))
    data = file.getvalue()
    assert "truncated" not in read_clip(data, video=False).issues
    clip = read_clip(data[: round(share * len(data))], video=False)
    assert "truncated" in clip.issues
    heard = len(clip.waveform) / clip.sample_rate
    assert probe(data[: round(share * len(data))]).duration == pytest.approx(heard, abs=1.1)  # TTA has frames of 1 s
    assert heard <= 4 * share + 0.1


def test_a_film_cut_behind_its_index_ends_where_it_was_cut(film: Path, tmp_path: Path):
    with (
        av.open(str(film)) as source,
        av.open(str(tmp_path / "a.mp4"), "w", options={"movflags": "faststart"}) as target,
    ):
        copies = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                target.mux(packet)
    data = (tmp_path / "a.mp4").read_bytes()
    assert probe(data).duration == pytest.approx(SECONDS, abs=0.2)
    cut = data[: len(data) * 6 // 10]
    clip = read_clip(cut, frames=8)
    assert "truncated" in clip.issues and len(clip.frames) > 6
    assert SECONDS / 4 < probe(cut).duration < 0.9 * SECONDS
