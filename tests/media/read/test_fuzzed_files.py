"""Files damaged at random: each is a clip or a MediaError, and none shows a fault of the reader's own."""

import random
from itertools import islice

import numpy as np
import pytest
from media_bytes import raw_mp4, remuxed, wav
from media_clips import many_streams, movie, muxed, tone

from mmattn.errors import MediaError
from mmattn.media import IsolatedReader, Request, Windows

EXTREMES = (b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00")


def damaged(data: bytes, rng: random.Random) -> bytes:
    """`data` with bytes changed, cut off at the end, cut out of its middle, or with a count in it gone wild."""
    out, how = bytearray(data), rng.randrange(4)
    if how == 0:
        for _ in range(rng.choice([1, 3, 10, 100])):
            out[rng.randrange(min(len(out), 2000) if rng.random() < 0.6 else len(out))] = rng.randrange(256)
    elif how == 1:
        del out[rng.randrange(len(out)) :]
    elif how == 2:
        at = rng.randrange(len(out))
        del out[at : at + rng.choice([1, 4, 8, 100, 5000])]
    else:
        for _ in range(rng.choice([1, 2, 4])):
            at = rng.randrange(min(len(out), 3000))
            out[at : at + 4] = rng.choice(EXTREMES)
    return bytes(out)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    clip = movie(folder / "a.mp4", count=12)
    sound = np.stack([tone(0.5, 48000)] * 8)
    return {
        "mp4": clip.read_bytes(),
        "mpegts": remuxed(clip, "mpegts"),
        "flv": remuxed(movie(folder / "b.mp4", count=12, bf="0"), "flv"),
        "nut": remuxed(clip, "nut"),
        "matroska": many_streams(folder / "c.mkv", [40, 200], [(400, "und"), (800, "eng")]).read_bytes(),
        "7.1": muxed(folder / "d.mkv", sounds=[(0.0, sound)], rate=48000, layout="7.1").read_bytes(),
        "mov": raw_mp4(),
        "wav": wav(bytes(range(256)) * 40),
    }


@pytest.fixture(scope="module")
def reader():
    with IsolatedReader(deadline_s=10.0, memory_bytes=2 << 30) as reader:
        yield reader


@pytest.mark.parametrize("kind", ["mp4", "mpegts", "flv", "nut", "matroska", "7.1", "mov", "wav"])
def test_damage_costs_at_most_the_file(reader: IsolatedReader, files: dict[str, bytes], kind: str):
    rng = random.Random(kind)
    for count in range(40):
        data = damaged(files[kind], rng)
        try:
            if count % 4:
                clip = reader.read(data, Request(frames=3, size=(32, 32), end=1.0 if count % 2 else None))
                assert clip.waveform is None or clip.waveform.isfinite().all()
            else:
                windows = reader.windows(data, Windows(0.2, 0.2, Request(fps=5, size=(32, 32))))
                list(islice(windows, 20))  # a gap of a day is many windows
                windows.close()
        except MediaError as error:
            assert error.reason != "crashed" or "ended by SIG" in error.detail, error
    assert len(reader.read(raw_mp4(), Request(fps=25)).frames) == 4
