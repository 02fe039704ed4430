"""Chapters and a summary: which captions they join, and who writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from caption_films import WordCounts, captions_by, record_of

from mmattn.inference.annotators.captions.chapters import TimedText, chapters, one_sentence
from mmattn.inference.writers.caption_levels import side_by_side
from mmattn.media.isolate.reader import IsolatedReader

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # transformers' own


def test_neighbours_that_are_alike_make_a_chapter() -> None:
    texts = ["dog", "dog dog", "sea", "sea dog sea", "dog", "car"]
    told = [TimedText(float(i), i + 1.0, text) for i, text in enumerate(texts)]
    groups = chapters(told, WordCounts()(texts), 0.8)
    assert [[one.text for one in group] for group in groups] == [
        ["dog", "dog dog"],
        ["sea", "sea dog sea"],
        ["dog"],
        ["car"],
    ]
    assert len(chapters(told, WordCounts()(texts), -1.0)) == 1


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
    captioner_of: Callable[[str], Path], reader: IsolatedReader, cut_film: Path
) -> None:
    pytest.importorskip("scenedetect")
    captions = captions_by(captioner_of("qwen2_5_omni_thinker"))
    shots = iter(["dog", "dog", "sea", "sea", "car"])
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return f"answer {len(asked)}"

    captions.language_model.describe = lambda spans, prompt: [next(shots) for _ in spans]  # type: ignore
    captions.language_model.answer, captions.embed = answer, WordCounts()  # type: ignore
    found = record_of([captions], reader, cut_film)["captions"]
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
    assert [each["level"] for each in record_of([captions], reader, cut_film)["captions"]] == ["summary"]


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
