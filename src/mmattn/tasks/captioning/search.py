"""Greedy, beam and nucleus search for captions, for a whole batch at once.

The search sees a decoder only as a `State`, which takes one token for each row and gives the logits of the next. Clips
with a finished caption leave the state, so that the rest cost less. There is no loop over clips.

Shape legend: B clips, K beams, N = active rows (clips x beams), T tokens so far, V tokens of the vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmattn.tasks.captioning.decoding import DecodedCaptions, Decoding


class State(ABC):
    """A decoder during the search. The rows of a clip are adjacent."""

    @abstractmethod
    def step(self, tokens: Int[Tensor, " N"]) -> Float[Tensor, "N V"]:
        """Read the next token of each row; return the logits of the one after it."""

    @abstractmethod
    def expand(self, beams: int) -> None:
        """Repeat the row of each clip `beams` times. Called before the first step."""

    @abstractmethod
    def reorder(self, rows: Int[Tensor, " N"]) -> None:
        """Row i continues from what row rows[i] of the same clip has read."""

    @abstractmethod
    def keep(self, clips: Bool[Tensor, " B"]) -> None:
        """Drop all other clips."""


@dataclass(frozen=True)
class Search:
    """A search with the settings of `decoding`, for a vocabulary with these special tokens."""

    decoding: Decoding
    bos: int
    eos: int
    pad: int

    def __call__(self, state: State, clips: int, device: torch.device, ids: Sequence[str] = ()) -> DecodedCaptions:
        """A caption for each of `clips` clips. `ids`: the clip ids, which seed the draws of sampling."""
        if self.decoding.method == "beam":
            return self._beam(state, clips, device)
        draws = self._draws(ids, clips).to(device) if self.decoding.method == "sample" else None
        return self._single(state, clips, device, draws)

    def _single(self, state: State, clips: int, device: torch.device, draws: Tensor | None) -> DecodedCaptions:
        most = self.decoding.max_length
        tokens = torch.full((clips, most), self.pad, device=device)
        length = torch.zeros(clips, dtype=torch.long, device=device)
        score = torch.zeros(clips, device=device)
        rows, last = torch.arange(clips, device=device), torch.full((clips,), self.bos, device=device)
        for t in range(most):
            found = self._allowed(torch.log_softmax(state.step(last).float(), dim=1), tokens[rows, :t])
            chosen = found.argmax(dim=1) if draws is None else self._sample(found, draws[rows, t])
            score[rows] += found.gather(1, chosen[:, None])[:, 0]
            tokens[rows, t] = chosen
            length[rows] += 1
            active = chosen != self.eos
            if not active.all():
                rows, chosen = rows[active], chosen[active]
                if not len(rows):
                    break
                state.keep(active)
            last = chosen
        return self._decoded(tokens, length, score / length.clamp(min=1) ** self.decoding.length_penalty)

    def _beam(self, state: State, clips: int, device: torch.device) -> DecodedCaptions:
        beams, most = self.decoding.beams, self.decoding.max_length
        state.expand(beams)
        best = _Finished.none(clips, beams, most, self.pad, device)
        rows = torch.arange(clips, device=device)
        tokens = torch.full((clips, beams, most), self.pad, device=device)
        score = torch.full((clips, beams), -torch.inf, device=device)
        score[:, 0] = 0.0  # all beams start equal, so only one counts
        last = torch.full((clips * beams,), self.bos, device=device)
        for t in range(most):
            found = torch.log_softmax(state.step(last).float(), dim=1)
            ruled = self._allowed(found, tokens[..., :t].flatten(0, 1)).view(len(rows), beams, -1)
            total = score[..., None] + ruled
            norm = (t + 1) ** self.decoding.length_penalty
            ended = tokens.clone()
            ended[..., t] = self.eos
            best.add(rows, ended, total[..., self.eos] / norm, t + 1)
            total[..., self.eos] = -torch.inf
            score, place = total.flatten(1).topk(beams)
            parent, token = place // total.shape[2], place % total.shape[2]
            tokens = tokens.gather(1, parent[..., None].expand_as(tokens))
            tokens[..., t] = token
            if t + 1 == most:
                best.add(rows, tokens, score / norm, most)
                break
            active = score[:, 0] / norm > best.score[rows, -1]
            order = (torch.arange(len(rows), device=device)[:, None] * beams + parent).flatten()
            state.reorder(order)
            if not active.all():
                rows, tokens, score, token = rows[active], tokens[active], score[active], token[active]
                if not len(rows):
                    break
                state.keep(active)
            last = token.flatten()
        return self._decoded(best.tokens[:, 0], best.length[:, 0], best.score[:, 0])

    def _allowed(self, found: Float[Tensor, "N V"], before: Int[Tensor, "N T"]) -> Float[Tensor, "N V"]:
        """Set the log probabilities `found` of tokens that the settings forbid to -inf, in place."""
        decoding, t = self.decoding, before.shape[1]
        end = found[:, self.eos].clone()
        for mark in {self.bos, self.pad} - {self.eos}:
            found[:, mark] = -torch.inf
        if t + 1 < decoding.min_length:
            found[:, self.eos] = -torch.inf
        elif decoding.length_decay is not None and t + 1 > decoding.length_decay:
            found[:, self.eos] /= decoding.decay_factor ** (t + 1 - decoding.length_decay)
        n = decoding.no_repeat_ngram
        if n and t >= n:
            seen = before.unfold(1, n, 1)  # (N, T - n + 1, n)
            again = (seen[..., : n - 1] == before[:, None, t - n + 1 :]).all(dim=2)
            row, place = again.nonzero(as_tuple=True)
            found[row, seen[row, place, n - 1]] = -torch.inf
        if t + 1 < decoding.min_length:
            # If no token is allowed, the caption ends.
            found[:, self.eos] = end.where(found.isneginf().all(dim=1), -torch.inf)
        return found

    def _sample(self, ruled: Float[Tensor, "N V"], draw: Float[Tensor, " N"]) -> Int[Tensor, " N"]:
        """Sample by one uniform draw for each row, from the likeliest tokens with `top_p` of the probability."""
        probability, order = torch.softmax(ruled / self.decoding.temperature, dim=1).sort(dim=1, descending=True)
        upto = probability.cumsum(dim=1)
        inside = upto - probability < self.decoding.top_p  # includes the token that reaches top_p
        mass = torch.where(inside, probability, 0.0).sum(dim=1)
        place = (upto < (draw * mass)[:, None]).sum(dim=1).clamp(max=ruled.shape[1] - 1)
        return order.gather(1, place[:, None])[:, 0]

    def _draws(self, ids: Sequence[str], clips: int) -> Float[Tensor, "B T"]:
        """Uniform draws for each step of each clip, seeded by its id only."""
        import hashlib

        names = ids or [str(i) for i in range(clips)]
        draws = torch.empty(clips, self.decoding.max_length)
        for row, name in zip(draws, names, strict=True):
            digest = hashlib.sha256(f"{self.decoding.seed}/{name}".encode("utf-8", "surrogateescape")).digest()
            row.uniform_(generator=torch.Generator().manual_seed(int.from_bytes(digest[:7], "big")))
        return draws

    def _decoded(self, tokens: Tensor, length: Tensor, score: Tensor) -> DecodedCaptions:
        keep = torch.arange(int(length.max()) if len(length) else 0, device=tokens.device) < length[:, None]
        tokens = tokens[:, : keep.shape[1]].where(keep, torch.tensor(self.pad, device=tokens.device))
        return DecodedCaptions(tokens, keep, score)


@dataclass
class _Finished:
    """The K best finished captions of each clip, best first."""

    tokens: Int[Tensor, "B K T"]
    length: Int[Tensor, "B K"]
    score: Float[Tensor, "B K"]

    @classmethod
    def none(cls, clips: int, beams: int, most: int, pad: int, device: torch.device) -> _Finished:
        """No finished captions yet."""
        return cls(
            torch.full((clips, beams, most), pad, device=device),
            torch.zeros(clips, beams, dtype=torch.long, device=device),
            torch.full((clips, beams), -torch.inf, device=device),
        )

    def add(self, rows: Tensor, tokens: Tensor, score: Tensor, length: int) -> None:
        """Add finished captions of this length for the clips `rows`, and keep the best."""
        beams = score.shape[1]
        if not (score > self.score[rows, -1:]).any():
            return
        self.score[rows], place = torch.cat([self.score[rows], score], dim=1).topk(beams)
        both = torch.cat([self.tokens[rows], tokens], dim=1)
        self.tokens[rows] = both.gather(1, place[..., None].expand(-1, -1, both.shape[2]))
        lengths = torch.cat([self.length[rows], torch.full_like(self.length[rows], length)], dim=1)
        self.length[rows] = lengths.gather(1, place)
