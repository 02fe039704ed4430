"""Captions a second: our decoder's cached greedy and beam search against transformers' `generate` on an equal decoder.

The same sizes, the same number of tokens for every caption, the same memory, one run, one thread, interleaved. Prints
a Markdown table: medians of processor time, and the ratio (above 1: we are faster).

    python scripts/benchmarks/captions.py [--rounds 7]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from mmattn.attention.exact.dense import DenseAttention
from mmattn.data.prepare.tokenizer import CaptionTokenizer
from mmattn.tasks.captioning.decoding import Decoding
from mmattn.tasks.captioning.transformer import TransformerCaptioner
from mmattn.types import Fused, Tokens

HEADS, LAYERS, TOKENS = 4, 4, 20  # tokens: of every caption
MEMORY = (96, 100)  # tokens of picture and of sound


def tokenizer(size: int) -> CaptionTokenizer:
    return CaptionTokenizer.learn([f"w{i}" for i in range(size)], "word", size)


def ours(dim: int, vocabulary: int, clips: int, decoding: Decoding) -> Callable[[], int]:
    torch.manual_seed(0)
    words = tokenizer(vocabulary)
    model = TransformerCaptioner(dim, HEADS, partial(DenseAttention), words, layers=LAYERS, max_length=TOKENS).eval()

    def stream(length: int) -> Tokens:
        keep = torch.ones(clips, length, dtype=torch.bool)
        return Tokens(torch.randn(clips, length, dim), keep, torch.zeros(clips, length))

    video, audio = map(stream, MEMORY)
    fused = Fused(video, audio)

    def run() -> int:
        with torch.inference_mode():
            return model.generate(fused, decoding).tokens.shape[1]

    return run


def theirs(dim: int, vocabulary: int, clips: int, beams: int) -> Callable[[], int]:
    from transformers import BartConfig, BartForConditionalGeneration
    from transformers.modeling_outputs import BaseModelOutput

    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=vocabulary, d_model=dim, encoder_layers=1, decoder_layers=LAYERS, decoder_attention_heads=HEADS,
        encoder_attention_heads=HEADS, decoder_ffn_dim=4 * dim, encoder_ffn_dim=4 * dim, max_position_embeddings=128,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, forced_eos_token_id=None,
    )  # fmt: skip
    model: Any = BartForConditionalGeneration(config).eval()
    memory = torch.randn(clips, sum(MEMORY), dim)

    def run() -> int:
        with torch.inference_mode():
            told = model.generate(
                encoder_outputs=BaseModelOutput(last_hidden_state=memory), num_beams=beams, do_sample=False,
                min_new_tokens=TOKENS, max_new_tokens=TOKENS,
            )  # fmt: skip
        return told.shape[1] - 1

    return run


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print("| decoder | clips at once | search | captions/s | transformers | ratio |\n|---|---|---|---|---|---|")
    for dim, vocabulary in ((128, 2000), (256, 8000), (512, 8000)):
        for clips in (1, 16, 64):
            for beams in (1, 4):
                decoding = Decoding(
                    "beam" if beams > 1 else "greedy", beams=beams, min_length=TOKENS, max_length=TOKENS
                )
                both = ours(dim, vocabulary, clips, decoding), theirs(dim, vocabulary, clips, beams)
                assert both[0]() == both[1]() == TOKENS
                times: tuple[list[float], list[float]] = ([], [])
                for _ in range(rounds):
                    for run, spent in zip(both, times, strict=True):
                        start = time.process_time()
                        run()
                        spent.append(time.process_time() - start)
                own, other = (clips / statistics.median(spent) for spent in times)
                search = f"beam {beams}" if beams > 1 else "greedy"
                print(
                    f"| {LAYERS} x {dim} | {clips} | {search} | {own:.0f} | {other:.0f} | {own / other:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
