"""Small caption decoders and fused clips for tests."""

from __future__ import annotations

from functools import partial

import torch

from mmattn.attention.exact.dense import DenseAttention
from mmattn.data.prepare.tokenizer import CaptionTokenizer
from mmattn.tasks.captioning.interface import Captioner
from mmattn.tasks.captioning.transformer import TransformerCaptioner
from mmattn.types import Batch, Fused, Tokens

DIM = 16
CAPTIONS = ["a red cat sits", "a dog runs fast", "the cat runs", "big dog sits on a mat", "red dog"]


def word_tokenizer() -> CaptionTokenizer:
    return CaptionTokenizer.learn(CAPTIONS, "word", 50)


def small_captioner(seed: int = 0, **options) -> Captioner:
    torch.manual_seed(seed)
    given = {"layers": 2, "dropout": 0.0, "max_length": 12} | options
    model = TransformerCaptioner(DIM, 2, partial(DenseAttention), word_tokenizer(), **given)
    with torch.no_grad():  # sharp, varied choices, as a trained one makes them
        model.embed_tokens.weight.mul_(4)
        model.embed_positions.weight.mul_(4)
        for layer in model.blocks:
            layer.cross_attn.out_proj.weight.mul_(6)
    return model.eval()


def fused_clips(clips: int = 5, seed: int = 0, video: int = 6, audio: int = 9, dim: int = DIM) -> Fused:
    """The second clip has no sound, the third no picture, the fourth neither, the others some padding."""
    draw = torch.Generator().manual_seed(seed)

    def stream(length: int, missing: tuple[int, ...]) -> Tokens:
        keep = torch.arange(length)[None] < torch.randint(2, length + 1, (clips, 1), generator=draw)
        keep[[i for i in missing if i < clips]] = False
        values = torch.randn(clips, length, dim, generator=draw) * keep[..., None]
        return Tokens(values, keep, torch.arange(length).float().expand(clips, -1) * 0.3)

    return Fused(stream(video, (2, 3)), stream(audio, (1, 3)))


def one_clip(fused: Fused, i: int) -> Fused:
    def cut(tokens: Tokens) -> Tokens:
        return Tokens(*(part[i : i + 1] for part in (tokens.values, tokens.keep, tokens.times)))

    return Fused(cut(fused.video), cut(fused.audio))


def batch_of(captions: list[tuple[str, ...]], real: list[bool] | None = None) -> Batch:
    """Clips without frames and audio, each with its captions; all `real` by default."""
    clips = len(captions)
    nothing = torch.zeros(clips, 0)
    return Batch(
        torch.zeros(clips, 0, 3, 4, 4, dtype=torch.uint8), nothing.bool(), nothing,
        torch.zeros(clips, 0, 8), nothing.bool(), nothing,
        tuple(map(str, range(clips))), captions=tuple(captions),
        real=torch.tensor(real or [True] * clips),
    )  # fmt: skip
