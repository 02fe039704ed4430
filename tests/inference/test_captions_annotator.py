"""captions: sentences by language models that see and hear, as the library writes them, at three levels."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from omni_models import CAPTIONERS, save_captioner

from mmattn.cli.main import main
from mmattn.errors import UsageError
from mmattn.inference.annotators.base.interface import Setting
from mmattn.inference.annotators.base.shared_decode import Annotators
from mmattn.inference.annotators.captions.annotator import Captions
from mmattn.inference.annotators.captions.chapters import TimedText, chapters, one_sentence
from mmattn.inference.annotators.captions.spans import smaller
from mmattn.inference.records.result import Result, schema
from mmattn.inference.writers.caption_levels import side_by_side
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.write.clips import write_video

KINDS = [
    pytest.param(kind, marks=pytest.mark.skipif(importlib.util.find_spec("num2words") is None, reason="no num2words"))
    if kind == "smolvlm"
    else kind
    for kind in CAPTIONERS
]
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # transformers' own
SMALL = {"max_tokens": 8, "prompt": "Say.", "embeddings": "none"}
RATE = 16000


@pytest.fixture(scope="module")
def reader() -> Iterator[IsolatedReader]:
    with IsolatedReader() as opened:
        yield opened


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def of(kind: str) -> Path:
        if kind not in made:
            made[kind] = save_captioner(kind, tmp_path_factory.mktemp("models") / kind)
        return made[kind]

    return of


def _pictures(count: int, seed: int = 0) -> np.ndarray:
    """Each of another colour, with a square."""
    frames = np.random.default_rng(seed).integers(0, 255, (count, 1, 1, 3), dtype=np.uint8).repeat(96, 1).repeat(160, 2)
    frames[:, 20:60, 30:90] = 255 - frames[:, 20:60, 30:90]
    return frames


def _chirp(seconds: float) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    return (0.2 * np.sin(2 * np.pi * (300 + 50 * t) * t)).astype(np.float32)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cuts at 3, 7, 12 and 14 of 26 s, across the 9.6 s at which windows meet; each shot a picture full of detail."""
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    stills = np.random.default_rng(4).integers(0, 255, (5, 64, 96, 3), dtype=np.uint8)
    lengths = (3, 4, 5, 2, 12)
    frames = np.concatenate([still[None].repeat(12 * s, 0) for still, s in zip(stills, lengths, strict=True)])
    write_video(path, frames, 12, _chirp(26))
    return path


def _record(annotators: list, reader: IsolatedReader, path: Path) -> dict:
    (record,) = Annotators(annotators).records([path], reader)
    record = json.loads(json.dumps(record, allow_nan=False))
    pytest.importorskip("jsonschema").validate(record, schema())
    assert Result.from_dict(record).to_dict() == record
    return record


def _captions(folder: Path, **settings) -> Captions:
    return Captions(Setting(), pretrained=str(folder), **(SMALL | settings))


def _library(kind: str, folder: Path, path: Path) -> str:
    """What transformers' own pipeline says of a file, which it reads itself."""
    hears = kind != "smolvlm"
    processor = transformers.AutoProcessor.from_pretrained(folder)
    model = getattr(transformers, type(CAPTIONERS[kind]()[0]).__name__).from_pretrained(folder).eval()
    apart = [{"type": "audio", "path": str(path)}] if kind == "gemma4" else []
    content = [{"type": "video", "path": str(path)}, *apart, {"type": "text", "text": "Say."}]
    given = processor.apply_chat_template(
        [[{"role": "user", "content": content}]],
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"do_sample_frames": False, "padding": True} | ({"fps": 1.0} if "qwen" in kind else {}),
        **({"load_audio_from_video": hears} if "qwen" in kind else {}),
    )
    with torch.no_grad():
        told = model.generate(**given, max_new_tokens=8, do_sample=False)
    (text,) = processor.batch_decode(told[:, given["input_ids"].shape[1] :], skip_special_tokens=True)
    return " ".join(text.split())


@pytest.mark.parametrize("kind", KINDS)
def test_a_caption_is_what_the_library_says_of_the_file(
    kind: str, folder_of: Callable[[str], Path], reader: IsolatedReader, tmp_path: Path
) -> None:
    from transformers.utils import is_torchcodec_usable

    if not is_torchcodec_usable(decode="video"):
        pytest.skip("the library reads files by torchcodec, which is not usable here")
    write_video(tmp_path / "a.mkv", _pictures(5, seed=2), 1, _chirp(5))
    captions = _captions(folder_of(kind), by="windows")
    record = _record([captions], reader, tmp_path / "a.mkv")
    (window, summary) = record["captions"]
    assert window["text"] == summary["text"] == _library(kind, folder_of(kind), tmp_path / "a.mkv") != ""
    assert (window["level"], summary["level"]) == ("window", "summary")
    assert (window["start"], window["end"]) == (0, pytest.approx(5, abs=0.1))
    assert record["used"] == {"captions": ["video"] if kind == "smolvlm" else ["video", "audio"]}
    assert kind in record["versions"]["captions"]


def _whole_qwen(kind: str, thinker_folder: Path, folder: Path) -> Path:
    """The model as it is published, which speaks too, around the part that is loaded here."""
    name = {"qwen2_5_omni": "Qwen2_5Omni", "qwen3_omni_moe": "Qwen3OmniMoe"}[kind]
    thinker = getattr(transformers, f"{name}ThinkerForConditionalGeneration").from_pretrained(thinker_folder)
    config = getattr(transformers, f"{name}Config")(thinker_config=thinker.config.to_dict(), enable_audio_output=False)
    model = getattr(transformers, f"{name}ForConditionalGeneration")(config)
    model.thinker.load_state_dict(thinker.state_dict())
    model.generation_config = thinker.generation_config
    model.save_pretrained(folder)
    transformers.AutoProcessor.from_pretrained(thinker_folder).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["qwen2_5_omni", "qwen3_omni_moe"])
def test_whole_models_and_other_weights_say_the_same(
    kind: str, folder_of: Callable[[str], Path], reader: IsolatedReader, tmp_path: Path
) -> None:
    write_video(tmp_path / "a.mkv", _pictures(5, seed=2), 1, _chirp(5))
    part = folder_of(f"{kind}_thinker")
    (wanted, _) = _record([_captions(part, by="windows")], reader, tmp_path / "a.mkv")["captions"]
    whole = _captions(_whole_qwen(kind, part, tmp_path / "whole"), by="windows")
    assert _record([whole], reader, tmp_path / "a.mkv")["captions"][0] == wanted
    assert kind in whole.version and "thinker" not in whole.version
    half = _captions(part, by="windows", dtype="bf16")
    assert half.language_model.model.dtype == torch.bfloat16  # type: ignore[attr-defined]
    assert len(_record([half], reader, tmp_path / "a.mkv")["captions"]) == 2
    if importlib.util.find_spec("accelerate") is not None:
        spread = _captions(part, by="windows", device_map="auto")
        assert _record([spread], reader, tmp_path / "a.mkv")["captions"][0] == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_one_span_a_batch_and_sixteen_say_the_same(
    kind: str, folder_of: Callable[[str], Path], reader: IsolatedReader, film: Path
) -> None:
    pytest.importorskip("scenedetect")
    records = [_record([_captions(folder_of(kind), batch_size=size)], reader, film) for size in (1, 16)]
    assert records[0]["captions"] == records[1]["captions"]
    shots = [each for each in records[0]["captions"] if each["level"] == "shot"]
    edges = [0, 3, 7, 12, 14]
    assert [each["start"] for each in shots] == [pytest.approx(edge, abs=0.1) for edge in edges]
    assert len({each["text"] for each in shots}) > 1
    one = _captions(folder_of(kind))
    batches: list[int] = []
    describe = one.language_model.describe
    one.language_model.describe = lambda spans, prompt: batches.append(len(spans)) or describe(spans, prompt)  # type: ignore
    _record([one], reader, film)
    assert batches[0] == 4, "real batches"


def test_spans_follow_each_other_whatever_the_cuts(
    folder_of: Callable[[str], Path], reader: IsolatedReader, film: Path
) -> None:
    pytest.importorskip("scenedetect")
    for settings, expected in (
        ({"by": "windows", "max_s": 8.0}, [0, 8, 16, 21]),
        ({"by": "windows", "max_s": 30.0}, [0]),
        ({"by": "shots", "max_s": 5.0}, [0, 3, 7, 12, 14, 19, 22.5]),
        ({"by": "windows", "max_s": 0.7, "levels": ["shots"]}, [*(0.7 * i for i in range(37)), 25.63]),
    ):
        captions = _captions(folder_of("qwen2_5_omni_thinker"), max_tokens=1, **{"levels": ["shots"], **settings})
        seen: list = []
        captions.language_model.describe = lambda spans, prompt, seen=seen: seen.extend(spans) or ["x"] * len(spans)  # type: ignore
        found = _record([captions], reader, film)["captions"]
        assert [each["start"] for each in found] == [pytest.approx(edge, abs=0.1) for edge in expected]
        assert len(found) == len(expected)
        assert found[-1]["end"] == pytest.approx(26, abs=0.1)
        assert all(before["end"] == after["start"] for before, after in pairwise(found))
        for span in seen[:-1]:  # in the last, sound and picture may end apart
            assert span.streams == ("video", "audio")
            assert len(span.waveform) == pytest.approx((span.end - span.start) * RATE, abs=2)
            assert abs(len(span.frames) - (span.end - span.start)) <= 1


def test_a_shot_between_two_frames_is_seen_as_it_is(
    folder_of: Callable[[str], Path], reader: IsolatedReader, tmp_path: Path
) -> None:
    """A shot of 0.75 s, and a frame a second on either side of it."""
    pytest.importorskip("scenedetect")
    stills = np.random.default_rng(7).integers(0, 255, (3, 64, 96, 3), dtype=np.uint8)
    lengths = (25, 9, 26)
    frames = np.concatenate([still[None].repeat(n, 0) for still, n in zip(stills, lengths, strict=True)])
    write_video(tmp_path / "a.mkv", frames, 12)
    seen: list = []
    captions = _captions(folder_of("qwen2_5_omni_thinker"), levels=["shots"])
    captions.language_model.describe = lambda spans, prompt: seen.extend(spans) or ["x"] * len(spans)  # type: ignore
    _record([captions], reader, tmp_path / "a.mkv")
    assert [round(span.start, 2) for span in seen] == [
        0,
        pytest.approx(25 / 12, abs=0.02),
        pytest.approx(34 / 12, abs=0.02),
    ]
    means = torch.from_numpy(stills).float().mean(dim=(1, 2))
    for span, mean in zip(seen, means, strict=True):
        shown = span.frames.float().mean(dim=(2, 3))
        assert bool(((shown - mean).abs() < 4).all())


def test_sound_is_used_only_where_there_is_some(
    folder_of: Callable[[str], Path], reader: IsolatedReader, tmp_path: Path
) -> None:
    """Mute, soundless, silent and picture-less files, one frame, and a sound that ends early."""
    pytest.importorskip("scenedetect")
    write_video(tmp_path / "mute.mkv", _pictures(4), 1)
    write_video(tmp_path / "sound.mkv", None, 1, _chirp(4))
    write_video(tmp_path / "silent.mkv", None, 1, np.zeros(4 * RATE, np.float32))
    write_video(tmp_path / "still.mkv", _pictures(4), 1, np.zeros(4 * RATE, np.float32))
    write_video(tmp_path / "one.mkv", _pictures(1), 5)
    write_video(tmp_path / "early.mkv", _pictures(12), 1, _chirp(3))
    for kind in ("qwen2_5_omni_thinker", "gemma4"):
        for name, used in (
            ("mute", ["video"]),
            ("sound", ["audio"]),
            ("silent", []),
            ("still", ["video"]),
            ("one", ["video"]),
            ("early", ["video", "audio"]),
        ):
            captions = _captions(folder_of(kind), max_s=4.0)
            record = _record([captions], reader, tmp_path / f"{name}.mkv")
            assert record["status"] == "ok" and record["used"] == {"captions": used} == record["used"], name
            assert ("captions" in record) == bool(used), name


def test_a_model_that_only_sees_says_nothing_of_sounds(
    folder_of: Callable[[str], Path], reader: IsolatedReader, tmp_path: Path
) -> None:
    pytest.importorskip("num2words")
    write_video(tmp_path / "sound.mkv", None, 1, _chirp(4))
    record = _record([_captions(folder_of("smolvlm"))], reader, tmp_path / "sound.mkv")
    assert record["status"] == "ok" and record["used"] == {"captions": []} and "captions" not in record


def test_the_modalities_asked_for_are_the_streams_used(
    folder_of: Callable[[str], Path], reader: IsolatedReader, film: Path
) -> None:
    folder = folder_of("qwen2_5_omni_thinker")
    heard = Captions(Setting(modalities=("audio",)), pretrained=str(folder), **SMALL)
    record = _record([heard], reader, film)
    assert record["used"] == {"captions": ["audio"]} and record["captions"][0]["level"] == "window"


class _Words:
    """Embeddings that are the counts of some words."""

    def __call__(self, sentences: Sequence[str]) -> torch.Tensor:
        return torch.tensor([[float(text.count(word)) for word in ("dog", "sea", "car")] for text in sentences])


def test_neighbours_that_are_alike_make_a_chapter() -> None:
    texts = ["dog", "dog dog", "sea", "sea dog sea", "dog", "car"]
    told = [TimedText(float(i), i + 1.0, text) for i, text in enumerate(texts)]
    groups = chapters(told, _Words()(texts), 0.8)
    assert [[one.text for one in group] for group in groups] == [
        ["dog", "dog dog"],
        ["sea", "sea dog sea"],
        ["dog"],
        ["car"],
    ]
    assert len(chapters(told, _Words()(texts), -1.0)) == 1


def test_many_sentences_are_told_in_parts() -> None:
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return f"part {len(asked)}"

    assert one_sentence(["a"], "Sum up:", answer) == "a" and not asked
    assert one_sentence([str(i) for i in range(120)], "Sum up:", answer) == "part 4"
    assert [prompt.count("\n- ") for prompt in asked] == [50, 50, 20, 3]
    assert asked[3] == "Sum up:\n- part 1\n- part 2\n- part 3"


def test_chapters_and_the_summary_are_written_by_the_model(
    folder_of: Callable[[str], Path], reader: IsolatedReader, film: Path
) -> None:
    pytest.importorskip("scenedetect")
    captions = _captions(folder_of("qwen2_5_omni_thinker"))
    shots = iter(["dog", "dog", "sea", "sea", "car"])
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return f"answer {len(asked)}"

    captions.language_model.describe = lambda spans, prompt: [next(shots) for _ in spans]  # type: ignore
    captions.language_model.answer, captions.embed = answer, _Words()  # type: ignore
    found = _record([captions], reader, film)["captions"]
    levels = {level: [each for each in found if each["level"] == level] for level in ("shot", "chapter", "summary")}
    assert [len(each) for each in levels.values()] == [5, 3, 1]
    assert [each["text"] for each in levels["chapter"]] == ["answer 1", "answer 2", "car"]
    assert [each["end"] for each in levels["chapter"]] == [pytest.approx(edge, abs=0.1) for edge in (7, 14, 26)]
    assert levels["summary"][0]["text"] == "answer 3" and asked[2].endswith("\n- answer 1\n- answer 2\n- car")
    assert (levels["summary"][0]["start"], levels["summary"][0]["end"]) == (0, pytest.approx(26, abs=0.1))
    assert side_by_side({"captions": found}) == levels["shot"]
    assert side_by_side({"captions": levels["summary"]}) == levels["summary"] and side_by_side({}) == []
    captions.levels, captions.embed = ("summary",), None
    shots = iter(["dog", "dog", "sea", "sea", "car"])
    assert [each["level"] for each in _record([captions], reader, film)["captions"]] == ["summary"]


def test_sentences_are_embedded_as_the_library_does(tmp_path: Path) -> None:
    from zero_shot_models import tokenizer

    from mmattn.inference.sentences.embedder import Sentences

    config = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = transformers.BertModel(transformers.BertConfig(vocab_size=24, **config)).eval()
    model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    sentences = ["a dog barks", "rain on the red roof"]
    given = tokenizer()(sentences, padding=True, return_tensors="pt")
    keep = given["attention_mask"][..., None]
    with torch.no_grad():
        hidden = model(given["input_ids"], given["attention_mask"]).last_hidden_state
    wanted = torch.nn.functional.normalize((hidden * keep).sum(dim=1) / keep.sum(dim=1))
    torch.testing.assert_close(Sentences(str(tmp_path))(sentences), wanted, atol=1e-5, rtol=1e-5)


def test_the_package_tells_chapters_by_what_sentences_mean() -> None:
    pytest.importorskip("all_minilm_l6_v2")
    from mmattn.inference.sentences.embedder import Sentences
    from mmattn.inference.sentences.source import PACKAGE

    texts = [
        "A man plays a guitar on a stage.",
        "A guitarist performs for a crowd.",
        "The singer and the guitarist play together.",
        "A chef cuts onions in a kitchen.",
        "Someone fries vegetables in a pan.",
        "Waves break on a beach at sunset.",
    ]
    told = [TimedText(float(i), i + 1.0, text) for i, text in enumerate(texts)]
    assert [len(group) for group in chapters(told, Sentences(PACKAGE)(texts), 0.5)] == [3, 2, 1]


def test_frames_are_made_smaller_in_their_shape() -> None:
    frames = torch.full((2, 3, 90, 160), 7, dtype=torch.uint8)
    assert smaller(frames, 64).shape == (2, 3, 36, 64) and bool((smaller(frames, 64) == 7).all())
    assert smaller(frames, 160) is frames and smaller(frames, 0) is frames


def test_the_command_captions_a_folder(
    folder_of: Callable[[str], Path], film: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("scenedetect")
    out = tmp_path / "out.jsonl"
    command = ["predict", "model=pretrained", "annotators=[captions,shots]", f"source={film}", f"out={out}"]
    command += [f"captions.pretrained={folder_of('gemma4')}", "captions.max_tokens=4", "captions.embeddings=none"]
    assert main(command) == 0, capsys.readouterr().err
    (record,) = map(json.loads, out.read_text().splitlines())
    shots = [[each["start"], each["end"]] for each in record["captions"] if each["level"] == "shot"]
    assert shots == [shot if shot[1] < 26 else [shot[0], pytest.approx(26, abs=0.1)] for shot in record["shots"]]


def test_what_cannot_be_is_one_line_before_anything_is_read(
    folder_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "config.json").write_text('{"model_type": "clip"}')
    given, here = f"captions.pretrained={folder_of('gemma4')}", "captions.endpoint=http://127.0.0.1:9/v1"
    for arguments, says in (
        ([], "hf download"),
        (["captions.pretrained=nowhere"], "no such folder; or fetch a name of the hub with hub=true"),
        (["captions.pretrained=clip"], "holds a 'clip' model; expected qwen2_5_omni"),
        ([given, here], "give either captions.pretrained= or"),
        ([given, "captions.by=scenes"], "expected shots or windows"),
        ([given, "captions.dtype=int4"], "expected auto or bf16"),
        ([given, "captions.levels=[shots,acts]"], "expected some of shots, chapters, summary"),
        ([given, "captions.fps=0"], "captions.fps=0: expected a number above 0"),
        ([given, "captions.longest_side=-1"], "captions.longest_side=-1: expected 0 or more"),
        ([given, "captions.embeddings=nowhere"], "captions.embeddings=nowhere: expected auto"),
        (["captions.endpoint=ftp://x/v1"], "expected an address such as http://127.0.0.1:8000/v1"),
        (["captions.endpoint=http://example.com/v1"], "captions.remote=true"),
        (["captions.endpoint=http://127.0.0.1.example.com/v1"], "captions.remote=true"),
        ([here, "captions.key_env=NO_SUCH_KEY"], "no such variable in the environment"),
    ):
        assert main(["predict", "model=pretrained", "annotators=[captions]", "source=a.mp4", *arguments]) == 2
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1, (arguments, error)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "clip"]


def test_a_folder_without_its_chat_template_is_refused(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    for file in folder_of("gemma4").iterdir():
        if file.name != "chat_template.jinja":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(UsageError, match="has no chat_template"):
        _captions(tmp_path)
