"""Tags without training: what is seen and heard, when, and one record a file whatever is wrong with it.

The sounds' network has random weights whose one class is made to tell noise from silence; the pictures' network has the
weights of the installed package.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mmattn.cli.main import main
from mmattn.encoders.pretrained.yamnet.network import CLASSES, YAMNet, YamnetLogMel, to_patches
from mmattn.encoders.pretrained.yamnet.weights import CLASS_NAMES, WEIGHTS
from mmattn.errors import UsageError
from mmattn.inference.annotators.base.interface import STEP_S, Setting
from mmattn.inference.annotators.base.shared_decode import Annotators, from_window_start
from mmattn.inference.annotators.sounds import Sounds
from mmattn.inference.annotators.things import Things
from mmattn.inference.records.result import schema
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.write.video import write_video

SHARED = Path(os.environ.get("MMATTN_SHARED", Path(__file__).parents[4] / "shared")) / "data"
NOISE = 3  # the class
ESC10 = {  # to AudioSet's classes of that name, no others
    "baby_cry": ["Baby cry, infant cry"],
    "chainsaw": ["Chainsaw"],
    "clock_tick": ["Tick", "Tick-tock", "Clock"],
    "dog_bark": ["Bark"],
    "fire_crackling": ["Fire", "Crackle"],
    "helicopter": ["Helicopter"],
    "person_sneeze": ["Sneeze"],
    "rain": ["Rain", "Raindrop", "Rain on surface"],
    "rooster": ["Crowing, cock-a-doodle-doo"],
    "sea_waves": ["Ocean", "Waves, surf"],
}


def _noise(seconds: float) -> np.ndarray:
    return 0.3 * np.random.default_rng(0).standard_normal(round(seconds * 16000)).astype(np.float32)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("yamnet")
    torch.manual_seed(0)
    network, hiss = YAMNet(), torch.from_numpy(_noise(0.975))[None]
    with torch.no_grad():
        heard, quiet = (network.embed(to_patches(YamnetLogMel()(x))[0])[0] for x in (hiss, hiss * 0))
        toward = (heard - quiet) / (heard - quiet).square().sum()
        network.classes.weight.zero_()[NOISE] = 20 * toward
        network.classes.bias.fill_(-10)[NOISE] = -20 * float(toward @ (heard + quiet)) / 2
    save_file(network.state_dict(), folder / WEIGHTS)
    with (folder / CLASS_NAMES).open("w", newline="") as lines:
        rows = csv.writer(lines)
        rows.writerow(["index", "mid", "display_name"])
        rows.writerows([i, f"/m/{i}", "Noise, hiss" if i == NOISE else f"class {i}"] for i in range(CLASSES))
    return folder


@pytest.fixture(scope="module")
def tagger(weights: Path) -> Annotators:
    return Annotators([Things(Setting()), Sounds(Setting(str(weights)))])


def _record(tagger: Annotators, reader: IsolatedReader, path: Path) -> dict:
    (record,) = tagger.records([path], reader)
    return json.loads(json.dumps(record, allow_nan=False))


def _grey(seconds: float) -> np.ndarray:
    return np.full((round(seconds * 5), 64, 64, 3), 90, np.uint8)


@pytest.mark.parametrize(("start", "end", "whole"), [(3.0, 6.0, 9.0), (9.0, 11.0, 12.0), (0.0, 2.0, 2.0)])
def test_a_sound_is_tagged_from_where_it_begins_to_where_it_ends(
    start: float, end: float, whole: float, tagger: Annotators, reader: IsolatedReader, tmp_path: Path
) -> None:
    """Also across the windows in which a file is read, 9.6 s from one to the next."""
    sound = np.zeros(round(whole * 16000), np.float32)
    sound[round(start * 16000) : round(end * 16000)] = _noise(end - start)
    write_video(tmp_path / "a.mkv", _grey(whole), 5, sound)
    record = _record(tagger, reader, tmp_path / "a.mkv")
    (tag,) = [tag for tag in record["tags"] if tag["modality"] == "audio"]
    assert tag["tag"] == "Noise, hiss" and tag["score"] > 0.9
    assert tag["audio"] == tag["score"] and tag["video"] == tag["synergy"] == 0
    ((first, last),) = tag["segments"]
    assert first == pytest.approx(start, abs=STEP_S + 0.02) and last == pytest.approx(end, abs=STEP_S + 0.05)
    assert record["modality"] == {"used": ["video", "audio"], "shapley": None, "attention": None}
    assert record["spans"] == [[0.0, pytest.approx(whole, abs=0.1)]]


@pytest.mark.parametrize("seconds", [0.2, 0.975, 9.6, 10.0, 10.3])
def test_all_of_a_sound_of_any_length_is_heard(
    seconds: float, tagger: Annotators, reader: IsolatedReader, tmp_path: Path
) -> None:
    write_video(tmp_path / "a.mkv", None, 5, _noise(seconds))
    record = _record(tagger, reader, tmp_path / "a.mkv")
    (span,) = record["spans"]
    assert span == [0.0, pytest.approx(seconds, abs=0.1)]
    if seconds > 0.5:  # what the network makes of a patch of mostly silence is its own affair
        (tag,) = record["tags"]
        assert tag["segments"][0][0] == 0 and tag["segments"][-1][1] == pytest.approx(seconds, abs=0.5)
    assert record["modality"]["used"] == ["audio"]


def test_a_picture_is_tagged_by_what_is_on_it_and_when(
    tagger: Annotators, reader: IsolatedReader, tmp_path: Path
) -> None:
    """A test card of stripes for 10 s, then noise: whatever the network calls the first, it says until 10 s."""
    rows, columns = np.mgrid[:128, :128]
    stripes = (columns // 8 % 2 * 255).astype(np.uint8)[..., None].repeat(3, axis=-1)
    checks = ((rows // 32 + columns // 32) % 2 * 255).astype(np.uint8)[..., None].repeat(3, axis=-1)
    write_video(tmp_path / "a.mkv", np.stack([stripes] * 50 + [checks] * 30), 5)
    loose = Annotators([Things(Setting(threshold=0.05))])
    record = _record(loose, reader, tmp_path / "a.mkv")
    assert record["modality"]["used"] == ["video"]
    early = [tag for tag in record["tags"] if tag["segments"][0][0] == 0]
    late = [tag for tag in record["tags"] if tag["segments"][-1][1] == pytest.approx(16.0, abs=0.01)]
    assert early and late
    assert {tag["modality"] for tag in record["tags"]} == {"video"}
    assert early[0]["segments"][0][1] == pytest.approx(10.0, abs=STEP_S + 0.3)
    assert late[0]["segments"][-1][0] == pytest.approx(10.0, abs=STEP_S + 0.3)


def test_every_file_of_a_source_gets_one_record(weights: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out.jsonl"
    source.mkdir()
    write_video(source / "a_good.mkv", _grey(2), 5, _noise(2))
    write_video(source / "b_silent.mkv", _grey(2), 5, np.zeros(32000, np.float32))
    (source / "c_empty.mp4").write_bytes(b"")
    (source / "d_text.mp4").write_text("this is not a video")
    data = (source / "a_good.mkv").read_bytes()
    (source / "e_cut.mkv").write_bytes(data[: len(data) * 2 // 3])
    assert main(["predict", "model=pretrained", f"source={source}", f"weights={weights}", f"out={out}"]) == 0
    records = {Path(line["path"]).name[0]: line for line in map(json.loads, out.read_text().splitlines())}
    assert sorted(records) == ["a", "b", "c", "d", "e"]
    for record in records.values():
        jsonschema.validate(record, schema())
    assert [tag["tag"] for tag in records["a"]["tags"] if tag["modality"] == "audio"] == ["Noise, hiss"]
    assert records["b"]["modality"]["used"] == ["video"] and "silent_audio" in records["b"]["issues"]
    assert records["c"]["status"] == records["d"]["status"] == "failed"
    assert records["d"]["reason"] == "not_media"
    assert records["e"]["status"] == "ok" and records["e"]["spans"][0][1] < records["a"]["spans"][0][1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "run=... for a trained model, model=pretrained"),
        (["model=pretrained", "run=r"], "no such model"),
        (["model=other"], "model=pretrained"),
        (["model=pretrained", "weights=nowhere"], "no such folder"),
        (["model=pretrained", "weights=."], "contains no yamnet_class_map.csv"),
        (["model=pretrained", "modalities=[smell]"], "expected some of video, audio"),
        (["model=pretrained", "modalities=[]"], "expected some of video, audio"),
    ],
)
def test_what_is_wrong_or_absent_is_one_line(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"")
    assert main(["predict", "source=a.mp4", *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert not (tmp_path / "predictions.jsonl").exists()


def test_a_map_of_other_classes_is_refused(weights: Path, tmp_path: Path) -> None:
    shutil.copytree(weights, tmp_path / "w")
    (tmp_path / "w" / CLASS_NAMES).write_text("index,mid,display_name\n0,/m/0,Speech\n")
    with pytest.raises(UsageError, match="expected 521 rows"):
        Sounds(Setting(str(tmp_path / "w")))


needs_shared = pytest.mark.skipif(not (SHARED / "yamnet").is_dir(), reason="no shared data")


@needs_shared
@pytest.mark.slow
def test_ten_kinds_of_sound_are_told_apart_without_training(reader: IsolatedReader) -> None:
    sounds = Sounds(Setting(str(SHARED / "yamnet")))
    windows = Annotators([sounds]).windows()
    places = {name: [sounds.names.index(tag) for tag in tags] for name, tags in ESC10.items()}
    right, files = 0, sorted((SHARED / "esc10").rglob("*.ogg"))
    for path in files:
        heard = [from_window_start(clip, clip.waveform) for clip in reader.windows(path, windows)]
        with torch.inference_mode():
            scores = torch.cat([sounds.scores(waveform) for waveform in heard if waveform is not None])
        most = scores.max(dim=0).values
        right += max(places, key=lambda name: float(most[places[name]].max())) == path.parent.name
    assert len(files) == 100 and right >= 90


@needs_shared
def test_pictures_of_imagenet_are_recognised(reader: IsolatedReader) -> None:
    """Every third, through the whole pipeline. On all 100: 87 right, 97 among the first five."""
    things = Things(Setting())
    windows = Annotators([things]).windows()
    names = [name.lower().replace(" ", "_") for name in things.names]
    files = sorted((SHARED / "imagenet_sample").glob("*.JPEG"))[::3]
    right = 0
    for path in files:
        with torch.inference_mode():
            (scores,) = things.scores(next(reader.windows(path, windows)).frames)
        right += names[int(scores.argmax())] == path.stem.partition("_")[2].lower()
    assert len(files) == 34 and right >= 28


@needs_shared
def test_a_real_talk_and_a_real_cockatoo_are_what_they_are(reader: IsolatedReader) -> None:
    setting = Setting(str(SHARED / "yamnet"))
    ear, both = Annotators([Sounds(setting)]), Annotators([Things(setting), Sounds(setting)])
    talk, bird = (
        {tag["tag"]: tag for tag in _record(tagger, reader, SHARED / "real_clips" / name)["tags"]}
        for tagger, name in ((ear, "nasa_talk.mp4"), (both, "cockatoo.mp4"))
    )
    assert talk["Speech"]["modality"] == "audio" and talk["Speech"]["segments"][0][1] > 10
    assert bird["sulphur-crested cockatoo"]["modality"] == "video"
    assert all(tag["modality"] == "video" for tag in bird.values()), "its sound track is silent"
