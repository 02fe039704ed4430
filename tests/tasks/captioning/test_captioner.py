"""The Transformer decoder reads what is real, nothing before its time, and says what it read it from."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from caption_models import CAPTIONS, DIM, batch_of, fused_clips, one_clip, small_captioner, word_tokenizer
from mmattn.attention.exact.dense import DenseAttention
from mmattn.config.compose import build, group_choices, read_choice
from mmattn.errors import UsageError
from mmattn.tasks.captioning.transformer import TransformerCaptioner
from mmattn.types import Fused, Tokens


def test_no_word_sees_a_later_one():
    model, fused = small_captioner(), fused_clips(3)
    tokens = torch.randint(4, 10, (3, 8), generator=torch.Generator().manual_seed(0))
    whole = model.read(fused, tokens).logits
    changed = tokens.clone()
    changed[:, 5:] = 5
    torch.testing.assert_close(model.read(fused, changed).logits[:, :5], whole[:, :5], rtol=0, atol=1e-6)
    torch.testing.assert_close(model.read(fused, tokens[:, :4]).logits, whole[:, :4], rtol=0, atol=1e-5)


def test_padding_says_nothing():
    model, fused = small_captioner(), fused_clips(4)

    def padded(tokens: Tokens) -> Tokens:
        more = 3
        return Tokens(
            torch.nn.functional.pad(tokens.values, (0, 0, 0, more), value=9.0),
            torch.nn.functional.pad(tokens.keep, (0, more)),
            torch.nn.functional.pad(tokens.times, (0, more), value=5.0),
        )

    tokens = torch.randint(4, 10, (4, 6))
    longer = Fused(padded(fused.video), padded(fused.audio))
    torch.testing.assert_close(model.read(longer, tokens).logits, model.read(fused, tokens).logits, rtol=0, atol=1e-5)


def test_mass_adds_up_and_is_0_for_what_is_missing():
    model, fused = small_captioner(), fused_clips(4)
    read = model.read(fused, torch.randint(4, 10, (4, 6)), mass=True)
    assert read.mass is not None
    total = read.mass["video"] + read.mass["audio"]
    torch.testing.assert_close(total[:3], torch.ones(3, 6))
    assert torch.equal(read.mass["audio"][1], torch.zeros(6)) and torch.equal(read.mass["video"][2], torch.zeros(6))
    assert torch.equal(total[3], torch.zeros(6))  # neither: nothing was read of either


@torch.no_grad()
def test_the_loss_is_the_mean_over_words_of_clips_with_captions():
    model, fused = small_captioner(label_smoothing=0.0), fused_clips(4)
    captions = [("a red cat sits",), (), ("the cat runs", "another"), ("red dog",)]
    found = model.loss(fused, batch_of(captions, [True, True, True, False]))
    total, count = 0.0, 0
    for i in (0, 2):
        ids = torch.tensor([model.tokenizer.encode(captions[i][0], 12)])
        logits = model.read(one_clip(fused, i), ids[:, :-1]).logits
        total += float(torch.nn.functional.cross_entropy(logits[0], ids[0, 1:], reduction="sum"))
        count += ids.shape[1] - 1
    assert float(found) == pytest.approx(total / count, rel=1e-5)
    assert float(model.loss(fused, batch_of([(), (), (), ()]))) == 0


def test_a_caption_that_is_too_long_is_learned_as_far_as_it_goes():
    model, fused = small_captioner(max_length=3), fused_clips(1)
    long = model.loss(fused, batch_of([("big dog sits on a mat",)]))
    assert long.isfinite()
    assert word_tokenizer().encode("big dog sits on a mat", 3)[-1] != word_tokenizer().eos


def test_it_learns_which_clip_is_which():
    """Two clips alike but for their sound, two but for their picture: after training, each gets its own caption."""
    torch.manual_seed(0)
    model = small_captioner(label_smoothing=0.0).train()
    one, two = torch.randn(2, 1, 4, DIM).unbind(0)
    keep, times = torch.ones(4, 4, dtype=torch.bool), torch.arange(4.0).expand(4, -1)
    fused = Fused(
        Tokens(torch.cat([one, one, two, two]), keep, times), Tokens(torch.cat([one, two, one, two]), keep, times)
    )
    captions = [(text,) for text in CAPTIONS[:4]]
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        model.loss(fused, batch_of(captions)).backward()
        optimizer.step()
    model.eval()
    for method in ("greedy", "beam"):
        assert model.texts(model.generate(fused, replace(model.decoding, method=method))) == CAPTIONS[:4]


@pytest.mark.parametrize("name", group_choices("attention"))
def test_every_mechanism_trains_or_says_why_not(name: str):
    torch.manual_seed(0)
    attention = build(read_choice("attention", name))
    try:
        model = TransformerCaptioner(DIM, 2, attention, word_tokenizer(), dropout=0.0, max_length=12)
    except UsageError as error:
        assert "needs times, which words do not have" in str(error)
        return
    fused = fused_clips(4)
    loss = model.loss(fused, batch_of([(text,) for text in CAPTIONS[:4]]))
    loss.backward()
    assert loss.isfinite()
    told = model.layers[0].cross_attn.out_proj.weight.grad
    assert told is not None and told.isfinite().all() and told.abs().sum() > 0
    model.eval()
    assert len(model.texts(model.generate(fused))) == 4


def test_wrong_settings_are_named():
    for wrong, word in (
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"layers": 0}, "layers"),
        ({"max_length": 0}, "max_length"),
    ):
        with pytest.raises(UsageError, match=word):
            TransformerCaptioner(DIM, 2, partial(DenseAttention), word_tokenizer(), **wrong)
