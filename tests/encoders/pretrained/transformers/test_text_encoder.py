"""Text towers give what transformers' whole models give, and a file of them is what task=prompted reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from mmattn.cli.main import main
from mmattn.encoders.pretrained.transformers.text_encoder import TextEncoder
from mmattn.errors import UsageError
from mmattn.inference.commands.embed_tags import embeddings
from mmattn.inference.tag_list import read_tags
from mmattn.tasks.tagging.embeddings import read_embeddings

WORDS = "a video of the sound dog barks cat red roof rain , on .".split()
LAYERS = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {**LAYERS, "vocab_size": 24, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "projection_dim": 12}
TEXT["max_position_embeddings"] = 9
VISION = {**LAYERS, "image_size": 32, "patch_size": 16}
HTSAT = {"patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [1, 2], "hidden_size": 16}
TEXTS = ["a video of the dog", "rain on a roof", "dog", "the sound of a red cat"]


def _clip() -> Any:
    config = transformers.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=12)
    return transformers.CLIPModel(config)


def _siglip() -> Any:
    text = {**TEXT, "projection_size": 16}
    return transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=VISION))


def _siglip2() -> Any:
    text, vision = {**TEXT, "projection_size": 16}, {**LAYERS, "num_patches": 4, "patch_size": 16}
    return transformers.Siglip2Model(transformers.Siglip2Config(text_config=text, vision_config=vision))


def _clap() -> Any:
    text = {**TEXT, "max_position_embeddings": 12}
    config = transformers.ClapConfig(text_config=text, audio_config=HTSAT, projection_dim=12)
    return transformers.ClapModel(config)


KINDS = {"clip": _clip, "siglip": _siglip, "siglip2": _siglip2, "clap": _clap}


def _tokenizer() -> Tokenizer:
    marks = ["<pad>", "<s>", "</s>", "<unk>"]
    vocabulary = {word: i for i, word in enumerate([*marks, *WORDS, "Dog"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return tokenizer


def _saved_tokenizer(folder: Path) -> None:
    """As the library saves it. It fills texts up with their end, which is not the padding of the models' configs."""
    marks = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=_tokenizer(), **marks).save_pretrained(folder)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`folder_of("clip")`: a whole model as users download it, with random weights."""
    made: dict[str, Path] = {}

    def of(kind: str) -> Path:
        if kind not in made:
            folder = made[kind] = tmp_path_factory.mktemp(kind)
            torch.manual_seed(3)
            model = KINDS[kind]()
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter, std=0.2)
            model.save_pretrained(folder)
            _saved_tokenizer(folder)
        return made[kind]

    return of


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_are_those_of_the_whole_model(kind: str, folder_of: Callable[[str], Path]) -> None:
    folder = folder_of(kind)
    encoder = TextEncoder(str(folder))
    whole = getattr(transformers, type(KINDS[kind]()).__name__).from_pretrained(folder).eval()
    found = encoder(TEXTS)
    assert found.shape == (len(TEXTS), 16 if kind.startswith("siglip") else 12)
    library = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    filled = {"padding": "max_length", "max_length": 9} if kind.startswith("siglip") else {}
    for text, row in zip(TEXTS, found, strict=True):
        ids = library(text, return_tensors="pt", **filled)["input_ids"]
        with torch.no_grad():
            wanted = whole.get_text_features(input_ids=ids)
        wanted = wanted if isinstance(wanted, torch.Tensor) else wanted.pooler_output
        torch.testing.assert_close(row, torch.nn.functional.normalize(wanted[0], dim=0), atol=1e-5, rtol=1e-5)


def test_siglip_reads_texts_as_it_was_trained_on_them(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    encoder = TextEncoder(str(folder_of("siglip")))
    same = encoder(["rain on a roof", "Rain, on a roof."])
    torch.testing.assert_close(same[0], same[1])
    newer = TextEncoder(str(folder_of("siglip2")))
    lower, upper, comma = newer(["dog barks", "Dog BARKS", "dog , barks"])
    torch.testing.assert_close(lower, upper)
    assert not torch.allclose(lower, comma, atol=1e-3)
    assert not torch.allclose(*TextEncoder(str(folder_of("clip")))(["dog", "Dog"]), atol=1e-3)


def test_tags_are_told_by_their_words_and_templates_are_averaged(
    folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "tags.txt").write_text("animal/dog\nred_cat\n\nrain\train on a roof\n")
    tags = read_tags(tmp_path / "tags.txt")
    assert tags == {"animal/dog": "dog", "rain": "rain on a roof", "red_cat": "red cat"}
    rows = [{"path": "a.mp4", "tags": ["rain", "dog"]}, {"path": "b.mp4", "tags": ["dog"]}]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert list(read_tags(tmp_path / "m.jsonl")) == ["dog", "rain"]
    encoder = TextEncoder(str(folder_of("clip")))
    found = embeddings(encoder, tags, ["a video of {}", "the sound of {}"])
    both = encoder(["a video of red cat", "the sound of red cat"]).mean(dim=0)
    torch.testing.assert_close(found["red_cat"], torch.nn.functional.normalize(both, dim=0))


def test_the_command_writes_what_prompted_models_read(
    folder_of: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "tags.txt").write_text("dog\ncat\n")
    out = tmp_path / "deep" / "tags.safetensors"
    command = ["data", "prompts", f"tags={tmp_path / 'tags.txt'}", f"pretrained={folder_of('clap')}", f"out={out}"]
    assert main([*command, 'templates=["the sound of {}"]']) == 0
    assert "2 tags, 12 numbers each, by CLAP" in capsys.readouterr().out
    names, rows = read_embeddings(out)
    assert names == ("cat", "dog") and rows.shape == (2, 12)
    torch.testing.assert_close(rows, TextEncoder(str(folder_of("clap")))(["the sound of cat", "the sound of dog"]))


def test_wrong_wishes_are_one_line(
    folder_of: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "tags.txt").write_text("dog\n")
    (tmp_path / "none.txt").write_text("\n")
    (tmp_path / "nameless.txt").write_text("dog\n\ta cat\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text('{"model_type": "clip"}')
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text('{"model_type": "clip"}')
    (tmp_path / "broken" / "tokenizer.json").write_text("{}")
    command = ["data", "prompts", f"tags={tmp_path / 'tags.txt'}", f"pretrained={folder_of('clip')}"]
    command += [f"out={tmp_path / 't.safetensors'}"]
    for more, says in (
        ([f"tags={tmp_path / 'nowhere.txt'}"], "no such file"),
        ([f"tags={tmp_path / 'none.txt'}"], "names no tags"),
        ([f"tags={tmp_path / 'nameless.txt'}"], "without a tag before its tab"),
        (["out=t.csv"], "ends in .safetensors"),
        (["templates=[dog]"], "where the tag stands"),
        (['templates=["a a a a a a a a a {}"]'], "has 12 tokens"),
        ([f"pretrained={tmp_path / 'nowhere'}"], "no such file or folder"),
        ([f"pretrained={tmp_path / 'other'}"], "holds a 'bert' model"),
        ([f"pretrained={tmp_path / 'bare'}"], "no tokenizer.json in this folder"),
        ([f"pretrained={tmp_path / 'broken'}"], "not a tokenizer"),
    ):
        assert main([*command, *more]) == 2, more
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1, (more, error)
    assert not (tmp_path / "t.safetensors").exists()


def test_a_tokenizer_of_another_model_is_refused(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    for file in folder_of("clip").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tokenizer = _tokenizer()
    tokenizer.add_tokens([f"word{i}" for i in range(30)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UsageError, match="from one model"):
        TextEncoder(str(tmp_path))
