"""Language models of the transformers library as decoders: the real classes, small and random."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from search_reference import Slow, tokens_of

from caption_models import CAPTIONS, DIM, batch_of, fused_clips, one_clip
from mmattn.attention.exact.dense import DenseAttention
from mmattn.checkpoint import MODEL_FILE, Checkpoint, load_model, save_model
from mmattn.data.prepare.clips import ClipSpec
from mmattn.data.prepare.tokenizer import CaptionTokenizer
from mmattn.errors import UsageError
from mmattn.tasks.captioning.decoding import Decoding

transformers = pytest.importorskip("transformers")
from mmattn.tasks.captioning.language_model.captioner import LanguageModelCaptioner  # noqa: E402
from mmattn.tasks.captioning.language_model.tokenizer import caption_tokenizer  # noqa: E402

ROTARY = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 64, "tie_word_embeddings": True,
}  # fmt: skip
SMALL = {
    "gpt2": {
        "n_layer": 2, "n_head": 2, "n_embd": 16, "n_positions": 64,
        "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
    },
    "llama": ROTARY,
    "qwen2": ROTARY,
    "qwen3": {**ROTARY, "head_dim": 8},
}  # fmt: skip


def tokenizer() -> CaptionTokenizer:
    return caption_tokenizer(CAPTIONS, None, False, 270, True)


def language_captioner(kind: str, reads: str, **options) -> LanguageModelCaptioner:
    torch.manual_seed(0)
    given = {"architecture": SMALL[kind], "prefix": 3, "max_length": 12} | options
    model = LanguageModelCaptioner(DIM, 2, partial(DenseAttention), tokenizer(), kind, reads=reads, **given)  # type: ignore[arg-type]
    with torch.no_grad():  # sharp, varied choices that depend on the clip
        for parameter in model.language.parameters():
            if parameter.ndim == 2:
                parameter.mul_(12)
        if reads == "cross":
            for gate in model.gate_list:
                gate.gates.fill_(1.5)
                gate.cross_attn.out_proj.weight.mul_(20)
        else:
            model.summaries.cross_attn.out_proj.weight.mul_(20)
            model.summaries.proj[1].weight.mul_(3)  # type: ignore[operator]
    return model.eval()


@pytest.mark.parametrize("reads", ["prefix", "cross"])
@pytest.mark.parametrize("kind", SMALL)
def test_the_cached_search_finds_what_the_slow_one_finds(kind: str, reads: str):
    model, fused = language_captioner(kind, reads), fused_clips()
    said = set()
    for decoding in (Decoding("greedy", max_length=6), Decoding("beam", beams=3, max_length=6, no_repeat_ngram=2)):
        found = tokens_of(model.generate(fused, decoding))
        slow = [Slow(model, one_clip(fused, i), decoding) for i in range(5)]
        wanted = [each.greedy() if decoding.method == "greedy" else each.beam()[0] for each in slow]
        assert found == wanted
        said |= {tuple(each) for each in found}
    assert len(said) > 2, "clips differ"


@pytest.mark.parametrize("reads", ["prefix", "cross"])
@pytest.mark.parametrize("mode", ["finetune", "frozen", "lora"])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_what_is_trained_is_what_was_asked_for(kind: str, mode: str, reads: str):
    model = language_captioner(kind, reads, mode=mode).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    losses = []
    for _ in range(3):
        loss = model.loss(fused_clips(4), batch_of([(text,) for text in CAPTIONS[:4]]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(before[name], tensor)}
    of_language = {name for name in changed if name.startswith("language.")}
    if mode == "frozen":
        assert not of_language
    if mode == "lora":
        assert of_language and all("lora_" in name for name in of_language)
    if mode == "finetune":
        assert any("embed" in name or "wte" in name for name in of_language)
    assert any(name.startswith(("gates.", "summaries.")) for name in changed)
    assert any(name.startswith("memory.") for name in changed)


@pytest.mark.parametrize("reads", ["prefix", "cross"])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_frozen_model_in_half_the_memory_learns_and_says_nearly_the_same(kind: str, reads: str):
    whole, half = (language_captioner(kind, reads, mode="frozen", dtype=dtype) for dtype in ("float32", "bfloat16"))
    assert {weight.dtype for weight in half.language.parameters()} == {torch.bfloat16}
    tokens, fused = torch.randint(4, 200, (4, 6)), fused_clips(4)
    exact = whole.read(fused, tokens).logits.detach()
    torch.testing.assert_close(
        half.read(fused, tokens).logits.float(), exact, rtol=0, atol=0.05 * float(exact.abs().max())
    )
    assert half.generate(fused, Decoding("beam", beams=2, max_length=5)).tokens.shape[0] == 4
    half.loss(fused, batch_of([(text,) for text in CAPTIONS[:4]])).backward()
    read = [p for name, p in half.named_parameters() if not name.startswith("language.")]
    assert {p.dtype for p in read} == {torch.float32}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in read)
    with pytest.raises(UsageError, match=r"captions\.dtype=bfloat16"):
        language_captioner(kind, reads, mode="finetune", dtype="bfloat16")


def test_gates_that_are_closed_leave_the_language_model_as_it_is():
    model = language_captioner("llama", "cross")
    for gate in model.gate_list:
        torch.nn.init.zeros_(gate.gates)
    tokens = torch.randint(4, 200, (5, 7))
    whole = model.read(fused_clips(), tokens).logits
    with pytest.raises(AssertionError, match="gate_inputs"):
        model.language(input_ids=tokens)
    for gate in model.gate_list:
        gate.forward = lambda x: x  # type: ignore[method-assign]
    torch.testing.assert_close(whole, model.language(input_ids=tokens).logits)


def test_a_deep_copy_runs_its_own_gates():
    model, tokens = language_captioner("gpt2", "cross"), torch.randint(4, 200, (4, 6))
    copied = copy.deepcopy(model)
    for gate in copied.gate_list:
        torch.nn.init.zeros_(gate.gates)
    logits, own = (each.read(fused_clips(4), tokens).logits for each in (model, copied))
    assert float((logits - own).detach().abs().max()) > 1e-3


def test_mass_of_gates_adds_up():
    read = language_captioner("gpt2", "cross").read(fused_clips(4), torch.randint(4, 200, (4, 6)), mass=True)
    assert read.mass is not None
    torch.testing.assert_close((read.mass["video"] + read.mass["audio"])[:3], torch.ones(3, 6))
    assert (
        language_captioner("gpt2", "prefix").read(fused_clips(4), torch.randint(4, 9, (4, 6)), mass=True).mass is None
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder as a language model is published in: config.json, safetensors, tokenizer.json."""

    def make(kind: str) -> Path:
        folder = tmp_path_factory.mktemp(kind)
        own = tokenizer()
        torch.manual_seed(3)
        names = {"gpt2": "GPT2", "llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}
        marks = {"vocab_size": own.size, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
        config = getattr(transformers, f"{names[kind]}Config")(**SMALL[kind], **marks)
        model = "GPT2LMHeadModel" if kind == "gpt2" else f"{names[kind]}ForCausalLM"
        getattr(transformers, model)(config).save_pretrained(folder)
        (folder / "tokenizer.json").write_text(own.definition)
        return folder

    return make


@pytest.mark.parametrize("kind", SMALL)
def test_a_published_folder_is_what_transformers_reads_from_it(kind: str, folders: Callable[[str], Path]):
    folder = folders(kind)
    if kind != "gpt2":  # as configs were written before transformers 5
        config = json.loads((folder / "config.json").read_text())
        config.pop("rope_parameters")
        (folder / "config.json").write_text(json.dumps({**config, "rope_theta": 523.0}))
    own = caption_tokenizer([], str(folder), False, 0, False)
    model = LanguageModelCaptioner(DIM, 2, partial(DenseAttention), own, kind, str(folder), prefix=2, max_length=12)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokens = torch.randint(4, own.size, (2, 9))
    torch.testing.assert_close(model.eval().language(input_ids=tokens).logits, theirs(input_ids=tokens).logits)
    assert own.decode(own.encode("a red cat", 99)) == "a red cat"


@pytest.mark.parametrize("mode", ["finetune", "lora"])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_checkpoint_needs_no_folder(kind: str, mode: str, folders: Callable, tiny_config: Callable, tmp_path: Path):
    from mmattn.data.manifest.labels import TagVocabulary
    from mmattn.model import build_model

    folder = folders(kind)
    choices = {"kind": kind, "mode": mode, "prefix": 2, "pretrained": folder, "max_length": 12}
    overrides = [f"captions.{name}={value}" for name, value in (choices | {"decoding.max_length": 13}).items()]
    config = tiny_config("task=none", "captions=hf", *overrides)
    own = caption_tokenizer([], str(folder), False, 0, False)
    torch.manual_seed(5)
    model = build_model(config, TagVocabulary(()), own).eval()
    save_model(tmp_path / MODEL_FILE, Checkpoint(model, config, TagVocabulary(()), ClipSpec(), {}))
    for file in folder.iterdir():
        file.unlink()
    loaded = load_model(tmp_path).model
    assert loaded.captions is not None and model.captions is not None
    assert loaded.captions.tokenizer == own
    tokens = torch.randint(4, own.size, (4, 5))
    fused = fused_clips(4, dim=config["dim"])
    torch.testing.assert_close(loaded.captions.read(fused, tokens).logits, model.captions.read(fused, tokens).logits)
    size = (tmp_path / MODEL_FILE).stat().st_size
    numbers = sum(p.numel() for p in model.parameters()) * 4
    assert size < numbers + 60_000, "a shared tensor is kept once"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"kind": "bert"}, "kind"), ({"reads": "both"}, "reads"), ({"mode": "half"}, "mode"), ({"prefix": 0}, "prefix"),
     ({"prefix": 60}, "positions"), ({"pretrained": "nowhere"}, "no such file or folder"),
     ({"architecture": {**SMALL["gpt2"], "vocab_size": 200}}, "language model only 200")],
)  # fmt: skip
def test_wrong_settings_are_named(wrong: dict, named: str):
    given = {"kind": "gpt2", "architecture": SMALL["gpt2"], "prefix": 3, "max_length": 12} | wrong
    with pytest.raises(UsageError, match=named):
        LanguageModelCaptioner(DIM, 2, partial(DenseAttention), tokenizer(), **given)


def test_a_folder_without_tokenizer_is_named(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"tokenizer\.json"):
        caption_tokenizer([], str(tmp_path), False, 0, False)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError, match="cannot be used"):
        caption_tokenizer([], str(tmp_path), False, 0, False)
