"""captions: sentences by language models that see and hear, as the library writes them, at three levels."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from caption_films import RATE, SMALL, captions_by, chirp, pictures, record_of
from omni_models import CAPTIONERS

from mmattn.inference.annotators.base.interface import Setting
from mmattn.inference.annotators.captions.annotator import Captions
from mmattn.inference.annotators.captions.spans import smaller
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.write.video import write_video

KINDS = [
    pytest.param(kind, marks=pytest.mark.skipif(importlib.util.find_spec("num2words") is None, reason="no num2words"))
    if kind == "smolvlm"
    else kind
    for kind in CAPTIONERS
]
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # transformers' own


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
    kind: str, captioner_of: Callable[[str], Path], reader: IsolatedReader, tmp_path: Path
) -> None:
    from transformers.utils import is_torchcodec_usable

    if not is_torchcodec_usable(decode="video"):
        pytest.skip("the library reads files by torchcodec, which is not usable here")
    write_video(tmp_path / "a.mkv", pictures(5, seed=2), 1, chirp(5))
    captions = captions_by(captioner_of(kind), by="windows")
    record = record_of([captions], reader, tmp_path / "a.mkv")
    (window, summary) = record["captions"]
    assert window["text"] == summary["text"] == _library(kind, captioner_of(kind), tmp_path / "a.mkv") != ""
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
    kind: str, captioner_of: Callable[[str], Path], reader: IsolatedReader, tmp_path: Path
) -> None:
    write_video(tmp_path / "a.mkv", pictures(5, seed=2), 1, chirp(5))
    part = captioner_of(f"{kind}_thinker")
    (wanted, _) = record_of([captions_by(part, by="windows")], reader, tmp_path / "a.mkv")["captions"]
    whole = captions_by(_whole_qwen(kind, part, tmp_path / "whole"), by="windows")
    assert record_of([whole], reader, tmp_path / "a.mkv")["captions"][0] == wanted
    assert kind in whole.version and "thinker" not in whole.version
    half = captions_by(part, by="windows", dtype="bf16")
    assert half.language_model.model.dtype == torch.bfloat16  # type: ignore[attr-defined]
    assert len(record_of([half], reader, tmp_path / "a.mkv")["captions"]) == 2
    if importlib.util.find_spec("accelerate") is not None:
        spread = captions_by(part, by="windows", device_map="auto")
        assert record_of([spread], reader, tmp_path / "a.mkv")["captions"][0] == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_one_span_a_batch_and_sixteen_say_the_same(
    kind: str, captioner_of: Callable[[str], Path], reader: IsolatedReader, cut_film: Path
) -> None:
    pytest.importorskip("scenedetect")
    records = [record_of([captions_by(captioner_of(kind), batch_size=size)], reader, cut_film) for size in (1, 16)]
    assert records[0]["captions"] == records[1]["captions"]
    shots = [each for each in records[0]["captions"] if each["level"] == "shot"]
    edges = [0, 3, 7, 12, 14]
    assert [each["start"] for each in shots] == [pytest.approx(edge, abs=0.1) for edge in edges]
    assert len({each["text"] for each in shots}) > 1
    one = captions_by(captioner_of(kind))
    batches: list[int] = []
    describe = one.language_model.describe
    one.language_model.describe = lambda spans, prompt: batches.append(len(spans)) or describe(spans, prompt)  # type: ignore
    record_of([one], reader, cut_film)
    assert batches[0] == 4, "real batches"


def test_spans_follow_each_other_whatever_the_cuts(
    captioner_of: Callable[[str], Path], reader: IsolatedReader, cut_film: Path
) -> None:
    pytest.importorskip("scenedetect")
    for settings, expected in (
        ({"by": "windows", "max_s": 8.0}, [0, 8, 16, 21]),
        ({"by": "windows", "max_s": 30.0}, [0]),
        ({"by": "shots", "max_s": 5.0}, [0, 3, 7, 12, 14, 19, 22.5]),
        ({"by": "windows", "max_s": 0.7, "levels": ["shots"]}, [*(0.7 * i for i in range(37)), 25.63]),
    ):
        captions = captions_by(captioner_of("qwen2_5_omni_thinker"), max_tokens=1, **{"levels": ["shots"], **settings})
        seen: list = []
        captions.language_model.describe = lambda spans, prompt, seen=seen: seen.extend(spans) or ["x"] * len(spans)  # type: ignore
        found = record_of([captions], reader, cut_film)["captions"]
        assert [each["start"] for each in found] == [pytest.approx(edge, abs=0.1) for edge in expected]
        assert len(found) == len(expected)
        assert found[-1]["end"] == pytest.approx(26, abs=0.1)
        assert all(before["end"] == after["start"] for before, after in pairwise(found))
        for span in seen[:-1]:  # in the last, sound and picture may end apart
            assert span.modalities == ("video", "audio")
            assert len(span.waveform) == pytest.approx((span.end - span.start) * RATE, abs=2)
            assert abs(len(span.frames) - (span.end - span.start)) <= 1


def test_a_shot_between_two_frames_is_seen_as_it_is(
    captioner_of: Callable[[str], Path], reader: IsolatedReader, tmp_path: Path
) -> None:
    """A shot of 0.75 s, and a frame a second on either side of it."""
    pytest.importorskip("scenedetect")
    stills = np.random.default_rng(7).integers(0, 255, (3, 64, 96, 3), dtype=np.uint8)
    lengths = (25, 9, 26)
    frames = np.concatenate([still[None].repeat(n, 0) for still, n in zip(stills, lengths, strict=True)])
    write_video(tmp_path / "a.mkv", frames, 12)
    seen: list = []
    captions = captions_by(captioner_of("qwen2_5_omni_thinker"), levels=["shots"])
    captions.language_model.describe = lambda spans, prompt: seen.extend(spans) or ["x"] * len(spans)  # type: ignore
    record_of([captions], reader, tmp_path / "a.mkv")
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
    captioner_of: Callable[[str], Path], reader: IsolatedReader, tmp_path: Path
) -> None:
    """Mute, soundless, silent and picture-less files, one frame, and a sound that ends early."""
    pytest.importorskip("scenedetect")
    write_video(tmp_path / "mute.mkv", pictures(4), 1)
    write_video(tmp_path / "sound.mkv", None, 1, chirp(4))
    write_video(tmp_path / "silent.mkv", None, 1, np.zeros(4 * RATE, np.float32))
    write_video(tmp_path / "still.mkv", pictures(4), 1, np.zeros(4 * RATE, np.float32))
    write_video(tmp_path / "one.mkv", pictures(1), 5)
    write_video(tmp_path / "early.mkv", pictures(12), 1, chirp(3))
    for kind in ("qwen2_5_omni_thinker", "gemma4"):
        for name, used in (
            ("mute", ["video"]),
            ("sound", ["audio"]),
            ("silent", []),
            ("still", ["video"]),
            ("one", ["video"]),
            ("early", ["video", "audio"]),
        ):
            captions = captions_by(captioner_of(kind), max_s=4.0)
            record = record_of([captions], reader, tmp_path / f"{name}.mkv")
            assert record["status"] == "ok" and record["used"] == {"captions": used} == record["used"], name
            assert ("captions" in record) == bool(used), name


def test_a_model_that_only_sees_says_nothing_of_sounds(
    captioner_of: Callable[[str], Path], reader: IsolatedReader, tmp_path: Path
) -> None:
    pytest.importorskip("num2words")
    write_video(tmp_path / "sound.mkv", None, 1, chirp(4))
    record = record_of([captions_by(captioner_of("smolvlm"))], reader, tmp_path / "sound.mkv")
    assert record["status"] == "ok" and record["used"] == {"captions": []} and "captions" not in record


def test_the_modalities_asked_for_are_the_streams_used(
    captioner_of: Callable[[str], Path], reader: IsolatedReader, cut_film: Path
) -> None:
    folder = captioner_of("qwen2_5_omni_thinker")
    heard = Captions(Setting(modalities=("audio",)), pretrained=str(folder), **SMALL)
    record = record_of([heard], reader, cut_film)
    assert record["used"] == {"captions": ["audio"]} and record["captions"][0]["level"] == "window"


def test_frames_are_made_smaller_in_their_shape() -> None:
    frames = torch.full((2, 3, 90, 160), 7, dtype=torch.uint8)
    assert smaller(frames, 64).shape == (2, 3, 36, 64) and bool((smaller(frames, 64) == 7).all())
    assert smaller(frames, 160) is frames and smaller(frames, 0) is frames
