"""Greedy and beam search for one clip, slow and plain: what the fast ones have to find."""

from __future__ import annotations

import math

import torch

from mmattn.tasks.captioning.decoding import DecodedCaptions, Decoding
from mmattn.tasks.captioning.interface import Captioner
from mmattn.types import Fused


def tokens_of(decoded: DecodedCaptions) -> list[list[int]]:
    lengths = decoded.keep.sum(dim=1).tolist()
    return [row[:n] for row, n in zip(decoded.tokens.tolist(), lengths, strict=True)]


class Slow:
    """The same searches for one clip, over lists of tokens, the whole decoder read anew for each."""

    def __init__(self, model: Captioner, fused: Fused, decoding: Decoding) -> None:
        self.model, self.fused, self.decoding = model, fused, decoding
        self.bos, self.eos, self.pad = model.tokenizer.bos, model.tokenizer.eos, model.tokenizer.pad

    def scores(self, before: list[int]) -> tuple[list[float], list[float]]:
        """Log probabilities as they are, and with the rules."""
        with torch.no_grad():
            logits = self.model.read(self.fused, torch.tensor([[self.bos, *before]])).logits[0, -1]
        found = torch.log_softmax(logits, dim=0).tolist()
        ruled = list(found)
        ruled[self.bos] = ruled[self.pad] = -math.inf
        d, t = self.decoding, len(before) + 1
        if t < d.min_length:
            ruled[self.eos] = -math.inf
        elif d.length_decay is not None and t > d.length_decay:
            ruled[self.eos] /= d.decay_factor ** (t - d.length_decay)
        n = d.no_repeat_ngram
        for token in range(len(ruled)):
            runs = [tuple(before[i : i + n]) for i in range(len(before) - n + 1)] if n else []
            if n and len(before) >= n and tuple([*before, token][-n:]) in runs:
                ruled[token] = -math.inf
        if max(ruled) == -math.inf:
            ruled[self.eos] = found[self.eos]
        return found, ruled

    def greedy(self) -> list[int]:
        said: list[int] = []
        while len(said) < self.decoding.max_length and self.eos not in said:
            _, ruled = self.scores(said)
            said.append(max(range(len(ruled)), key=lambda i: ruled[i]))
        return said

    def beam(self) -> tuple[list[int], float]:
        d = self.decoding
        live: list[tuple[float, list[int]]] = [(0.0, [])]
        done: list[tuple[float, list[int]]] = []
        for t in range(1, d.max_length + 1):
            nexts = []
            for score, said in live:
                _, ruled = self.scores(said)
                for token, value in enumerate(ruled):
                    if value == -math.inf:
                        continue
                    ended = token == self.eos
                    (done if ended else nexts).append(
                        ((score + value) / (t**d.length_penalty if ended else 1), [*said, token])
                    )
            done = sorted(done, reverse=True)[: d.beams]
            live = sorted(nexts, reverse=True)[: d.beams]
            if t == d.max_length:
                done += [(score / t**d.length_penalty, said) for score, said in live]
            if not live or (len(done) >= d.beams and live[0][0] / t**d.length_penalty <= done[-1][0]):
                break
        score, said = max(done)
        return said, score
