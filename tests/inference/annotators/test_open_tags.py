"""open_tags: tags of one's own, scored as the library's own model and processor score them, with times."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from zero_shot_models import ZERO_SHOT, save_zero_shot, tokenizer

from mmattn.cli.main import main
from mmattn.errors import UsageError
from mmattn.inference.annotators.base import interface
from mmattn.inference.annotators.base.interface import Setting
from mmattn.inference.annotators.base.shared_decode import Annotators
from mmattn.inference.annotators.open_tags import requirements
from mmattn.inference.annotators.open_tags.annotator import OpenTags
from mmattn.inference.records.result import Result, schema
from mmattn.media import read_clip
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.write.video import write_video

TAGS = ["dog", "red_cat", "rain on roof"]
TEMPLATES = ["a video of {}", "the sound of {}"]
HEARS = ("clap", "pe_audio_video")
RATE = 48000


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def of(kind: str) -> Path:
        if kind not in made:
            made[kind] = save_zero_shot(kind, tmp_path_factory.mktemp("models") / kind)
        return made[kind]

    return of


def _film(path: Path, seconds: float, picture: bool = True, sound: bool = True, fps: int = 5) -> Path:
    draw = np.random.default_rng(0)
    frames = draw.integers(0, 255, (round(seconds * fps), 1, 1, 3), dtype=np.uint8).repeat(48, 1).repeat(80, 2)
    t = np.arange(round(seconds * RATE)) / RATE
    wave = (0.2 * np.sin(2 * np.pi * (300 + 400 * t) * t) + 0.05 * draw.standard_normal(len(t))).astype(np.float32)
    write_video(path, frames if picture else None, fps, wave if sound else None, sample_rate=RATE)
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two windows and a bit, of pictures that change and a chirp in noise."""
    return _film(tmp_path_factory.mktemp("film") / "film.mkv", 20.4)


def _tagger(folder: Path, **settings) -> OpenTags:
    settings = {"threshold": 0.0, "smooth_s": 0.0, "templates": TEMPLATES, "tags": TAGS} | settings
    return OpenTags(Setting(), pretrained=str(folder), **settings)


def _record(annotators: list, reader: IsolatedReader, path: Path) -> dict:
    (record,) = Annotators(annotators).records([path], reader)
    record = json.loads(json.dumps(record, allow_nan=False))
    pytest.importorskip("jsonschema").validate(record, schema())
    assert Result.from_dict(record).to_dict() == record
    return record


def _seen(path: Path, start: float, end: float, count: int) -> torch.Tensor:
    times = [start + i * (end - start) / count for i in range(count)]
    frames = read_clip(path, times=times, audio=False).frames
    assert frames is not None
    return frames


def _heard(path: Path, start: float, end: float) -> np.ndarray:
    wave = read_clip(path, start=start, end=end, video=False, audio_rate=RATE).waveform
    assert wave is not None
    return wave.numpy()


def _texts(words: str) -> list[str]:
    return [template.replace("{}", words) for template in TEMPLATES]


def _unit(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows, dim=-1)


@torch.no_grad()
def _library(kind: str, folder: Path, path: Path, start: float, end: float) -> list[float]:
    """What transformers' own processors and model say of [start, end) s for each tag, texts in one padded batch."""
    model = getattr(transformers, type(ZERO_SHOT[kind]()[0]).__name__).from_pretrained(folder).eval()
    words = ["dog", "rain on roof", "red cat", "something"]
    texts = [text for each in words for text in _texts(each)]
    length = {"padding": "max_length", "max_length": 16} if kind.startswith("siglip") else {"padding": True}
    given = dict(tokenizer()(texts, return_tensors="pt", **length))
    given.pop("token_type_ids", None)
    if kind.startswith("siglip"):
        given.pop("attention_mask")
    if kind != "clap":
        frames = _seen(path, start, end, 4 if kind == "pe_audio_video" else 1)
    if kind == "pe_audio_video":
        pictures = transformers.AutoVideoProcessor.from_pretrained(folder)
        given |= pictures(videos=[frames], do_sample_frames=False, return_tensors="pt")
    elif kind != "clap":
        given |= transformers.AutoImageProcessor.from_pretrained(folder)(images=list(frames), return_tensors="pt")
    if kind in HEARS:
        listen = transformers.AutoFeatureExtractor.from_pretrained(folder)
        given |= listen(_heard(path, start, end), sampling_rate=RATE, return_tensors="pt")
    if kind == "pe_audio_video":  # its forward pairs each clip with a sentence
        paired = ("pixel_values_videos", "input_values", "padding_mask")
        given |= {name: given[name].repeat_interleave(len(texts), 0) for name in paired}
    told = model(**given)
    if kind == "pe_audio_video":
        return torch.sigmoid(told.logits_audio_video_text[0].unflatten(0, (4, 2)).mean(dim=1))[:3].tolist()
    means = _unit(told.text_embeds.unflatten(0, (4, 2)).mean(dim=1))
    one = told.audio_embeds if kind == "clap" else told.image_embeds
    logits = (_unit(one) @ means.T)[0] * (model.logit_scale_a if kind == "clap" else model.logit_scale).exp()
    if kind.startswith("siglip"):
        return torch.sigmoid(logits + model.logit_bias)[:3].tolist()
    return [float(torch.softmax(logits[[k, 3]], dim=0)[0]) for k in range(3)]


@pytest.mark.parametrize("kind", ZERO_SHOT)
def test_scores_are_those_of_the_library_step_by_step(
    kind: str, film: Path, folder_of: Callable[[str], Path], reader: IsolatedReader
) -> None:
    tagger, step_s = _tagger(folder_of(kind)), 4.8 if kind in HEARS else 0.96
    assert tagger.step_s == step_s and tagger.names == ["dog", "rain on roof", "red_cat"]
    found: list[tuple[float, float, list[float]]] = []
    annotation = tagger.begin(0.0)
    add = annotation._tags.add  # type: ignore[attr-defined]

    def note(scores: torch.Tensor, bounds: list[float]) -> None:
        found.extend((*span, row) for span, row in zip(pairwise(bounds), scores.tolist(), strict=True))
        add(scores, bounds)

    annotation._tags.add = note  # type: ignore[attr-defined]
    together = Annotators([tagger])
    clips = list(reader.windows(film, together.windows()))
    for i, clip in enumerate(clips):
        together.update([annotation], clip, i == 0, i == len(clips) - 1)
    annotation.findings()
    assert len(clips) == 3
    assert found[0][0] == 0 and found[-1][1] == pytest.approx(20.4, abs=0.1)
    assert all(end == pytest.approx(start) for (_, end, _), (start, *_) in pairwise(found))
    assert len(found) == 2 * round(9.6 / step_s) + 1, "the rest of 1.2 s is one step"
    for start, end, row in found[:: max(1, len(found) // 5)]:
        if start < 19:
            assert row == pytest.approx(_library(kind, folder_of(kind), film, start, end), abs=2e-5)
    for scores in ([row[0] for *_, row in found], found[0][2]):
        assert max(scores) - min(scores) > 1e-3, "moments differ, and tags"


def test_a_record_says_which_streams_a_tag_was_looked_for_in(
    film: Path, folder_of: Callable[[str], Path], reader: IsolatedReader, tmp_path: Path
) -> None:
    mute = _film(tmp_path / "mute.mkv", 6, sound=False)
    sound = _film(tmp_path / "sound.mkv", 6, picture=False)
    for kind in ZERO_SHOT:
        tagger = _tagger(folder_of(kind))
        streams = list(tagger.model.modalities)
        for path, has in ((film, ["video", "audio"]), (mute, ["video"]), (sound, ["audio"])):
            record = _record([tagger], reader, path)
            used = [stream for stream in streams if stream in has]
            assert record["status"] == "ok" and record["used"] == {"open_tags": used} == record["used"]
            assert [tag["from"] for tag in record["tags"]] == ["open_tags"] * (3 if used else 0)
            for tag in record["tags"]:
                assert tag.get("modality") == (used[0] if len(used) == 1 else None)
                assert tag.get(used[0]) == (tag["score"] if len(used) == 1 else None)
                assert tag["segments"][0][0] == 0
            assert kind in record["versions"]["open_tags"] and "transformers" in record["versions"]["open_tags"]
            assert "not calibrated" in record["versions"]["open_tags"]


@pytest.mark.parametrize("kind", ZERO_SHOT)
def test_odd_files_are_answered(
    kind: str, folder_of: Callable[[str], Path], reader: IsolatedReader, tmp_path: Path
) -> None:
    tagger = _tagger(folder_of(kind))
    one = _film(tmp_path / "one.mkv", 0.2, sound=False)
    blip = _film(tmp_path / "blip.mkv", 0.05, picture=False)
    write_video(tmp_path / "silent.mkv", None, 5, np.zeros(2 * RATE, np.float32), sample_rate=RATE)
    for path, stream in ((one, "video"), (blip, "audio"), (tmp_path / "silent.mkv", None)):
        record = _record([tagger], reader, path)
        applies = stream in tagger.model.modalities
        assert record["status"] == "ok" and record["used"] == {"open_tags": [stream] if applies else []}
        assert len(record["tags"]) == (3 if applies else 0)
        assert all(start < end for tag in record["tags"] for start, end in tag["segments"])


def test_a_sound_that_ends_early_leaves_the_picture(
    folder_of: Callable[[str], Path], reader: IsolatedReader, tmp_path: Path
) -> None:
    frames = np.random.default_rng(1).integers(0, 255, (100, 32, 32, 3), dtype=np.uint8)
    write_video(tmp_path / "a.mkv", frames, 5, np.full(5 * RATE, 0.1, np.float32), sample_rate=RATE)
    record = _record([_tagger(folder_of("pe_audio_video"))], reader, tmp_path / "a.mkv")
    assert record["used"] == {"open_tags": ["video", "audio"]} and "modality" not in record["tags"][0]
    assert record["tags"][0]["segments"] == [[0.0, pytest.approx(20, abs=0.2)]]
    record = _record([_tagger(folder_of("clap"))], reader, tmp_path / "a.mkv")
    assert record["tags"][0]["segments"] == [[0.0, pytest.approx(5, abs=0.2)]] or len(record["tags"]) == 3


def test_a_tag_has_its_times_and_its_threshold(
    folder_of: Callable[[str], Path], reader: IsolatedReader, film: Path
) -> None:
    every = {tag["tag"]: tag["score"] for tag in _record([_tagger(folder_of("clip"))], reader, film)["tags"]}
    threshold = sorted(every.values())[-1] - 1e-3
    (best, *_) = _record([_tagger(folder_of("clip"), threshold=threshold)], reader, film)["tags"]
    assert best["score"] == max(every.values())
    assert sum(end - start for start, end in best["segments"]) < 20
    assert all(round(edge / 0.96, 2) % 1 < 0.02 or edge > 20 for span in best["segments"] for edge in span)


def test_a_tag_does_not_depend_on_the_others(
    folder_of: Callable[[str], Path], reader: IsolatedReader, film: Path
) -> None:
    for kind in ("clip", "siglip", "clap"):
        many = {tag["tag"]: tag["score"] for tag in _record([_tagger(folder_of(kind))], reader, film)["tags"]}
        (alone,) = _record([_tagger(folder_of(kind), tags=["dog"])], reader, film)["tags"]
        assert alone["score"] == pytest.approx(many["dog"], abs=1e-4)


def test_the_modalities_asked_for_are_the_streams_looked_at(
    folder_of: Callable[[str], Path], reader: IsolatedReader, film: Path
) -> None:
    settings = {"pretrained": str(folder_of("pe_audio_video")), "tags": TAGS, "threshold": 0.0}
    heard = OpenTags(Setting(modalities=("audio",)), **settings)
    assert heard.view is None
    assert _record([heard], reader, film)["used"] == {"open_tags": ["audio"]}


def test_the_command_tags_a_folder_with_a_list_of_tags(
    folder_of: Callable[[str], Path], film: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "tags.txt").write_text("dog\nwet\train on roof\n")
    out = tmp_path / "out.jsonl"
    command = ["predict", "model=pretrained", "annotators=[open_tags]", f"open_tags.tags={tmp_path / 'tags.txt'}"]
    command += [f"open_tags.pretrained={folder_of('siglip')}", f"source={film}", f"out={out}", "threshold=0"]
    assert main(command) == 0, capsys.readouterr().err
    (record,) = map(json.loads, out.read_text().splitlines())
    assert {tag["tag"] for tag in record["tags"]} == {"dog", "wet"}
    (tmp_path / "tags.txt").write_text("dog\nwet\n")
    assert main(command) == 2, "another list of tags is another job"


def test_what_cannot_be_is_one_line_before_anything_is_read(
    folder_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    clip, tags = f"open_tags.pretrained={folder_of('clip')}", "open_tags.tags=[dog]"
    for arguments, says in (
        ([], "hf download"),
        ([tags], "hf download"),
        ([clip], "open_tags.tags=tags.txt"),
        ([tags, "open_tags.pretrained=nowhere"], "no such folder; for a name on the hub set hub=true"),
        ([tags, "open_tags.pretrained=empty"], "has no config.json"),
        ([tags, "open_tags.pretrained=bert"], "holds a 'bert' model; expected clip, siglip"),
        ([clip, "open_tags.tags=no.txt"], "open_tags.tags=no.txt: no such file"),
        ([clip, "open_tags.tags=[]"], "expected tags, or a file"),
        ([clip, tags, "open_tags.step_s=1"], "open_tags.step_s=1: expected 9.6 s divided by a whole number"),
        ([clip, tags, "open_tags.templates=[dog]"], "where the tag stands"),
        ([clip, tags, "modalities=[audio]"], "a clip model needs the video, and modalities=[audio] leaves that out"),
    ):
        assert main(["predict", "model=pretrained", "annotators=[open_tags]", "source=a.mp4", *arguments]) == 2
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1, (arguments, error)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "bert", "empty"]


def test_a_folder_that_would_fetch_or_lacks_weights_is_refused(
    folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    def changed(name: str, change: Callable[[dict], None], kind: str = "clip") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for file in folder_of(kind).iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    kernel = changed("kernel", lambda config: config["text_config"].update(attn_implementation="someone/kernels"))
    with pytest.raises(UsageError, match="would download a kernel"):
        _tagger(kernel)

    def elsewhere(config: dict) -> None:
        config["audio_video_config"]["video_config"]["vision_config"]["architecture"] = "hf-hub:someone/model"

    with pytest.raises(UsageError, match="timm has no model"):
        _tagger(changed("elsewhere", elsewhere, "pe_audio_video"))
    with pytest.raises(UsageError, match="are missing"):
        _tagger(changed("deeper", lambda config: config["vision_config"].update(num_hidden_layers=3)))


def test_the_hop_that_is_known_without_torch_is_that_of_the_windows() -> None:
    assert pytest.approx(interface.HOP_S) == requirements.HOP_S
