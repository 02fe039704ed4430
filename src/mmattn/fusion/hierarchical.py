"""Hierarchical fusion: fine within windows of time, coarse across them (after HiP and Swin-like two-level attention).

In each layer the tokens of both streams that fall into the same window of `window_s` seconds read each other; then the
mean of each stream in each window, one token, reads all windows of both streams (the order and windows of the attention
do not apply to it), and its result is added to the tokens of the window. With n tokens a window and W windows a layer
costs O(W n^2 + W^2) instead of O(W^2 n^2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmattn.attention.interface import AttentionFactory
from mmattn.attention.positions.interface import PositionFactory
from mmattn.attention.positions.rotary import Rotary
from mmattn.fusion.blocks.parts import Part, zeroed
from mmattn.fusion.blocks.transformer import MergedBlock, check_layers
from mmattn.fusion.interface import Fusion
from mmattn.types import MODALITIES, Fused, LayerStats, Tokens, once


@dataclass(frozen=True)
class _Groups:
    """Where the tokens of a stream go: W windows of n places each, and back."""

    index: Int[Tensor, "B W*n"]  # the token in each place
    place: Int[Tensor, "B L"]  # the place of each token
    near: Tokens  # the places, (B * W, n), of which `gather` fills in the values
    far: Tokens  # a token for each window, (B, W), of which `means` fills in the values

    def gather(self, tokens: Tokens) -> Tokens:
        """(B, L) tokens as (B * W, n)."""
        values = tokens.values.take_along_dim(self.index[..., None], dim=1)
        return self.near.with_values(values.reshape(*self.near.keep.shape, values.shape[-1]))

    def means(self, grouped: Tokens) -> Tokens:
        """The mean of each window's tokens: (B, W)."""
        values = (grouped.values * _share(grouped).to(grouped.values.dtype)[..., None]).sum(dim=1)
        return self.far.with_values(values.reshape(*self.far.keep.shape, values.shape[-1]))

    def scatter(self, grouped: Tokens, like: Tokens) -> Tokens:
        """The reverse of `gather`."""
        values = grouped.values.reshape(*self.index.shape, grouped.values.shape[-1])
        return zeroed(values.take_along_dim(self.place[..., None], dim=1), like)


class HierarchicalFusion(Fusion):
    """`window_s`: length of a window, in seconds from the clip's first token."""

    one_graph = False  # windows are counted by the tokens' times
    reference = "own"

    def __init__(
        self,
        dim: int,
        heads: int,
        attention: AttentionFactory,
        layers: int = 2,
        window_s: float = 1.0,
        dropout: float = 0.1,
        position: PositionFactory = Rotary,
    ) -> None:
        super().__init__()
        if window_s <= 0:
            raise ValueError(f"window_s={window_s}: expected a time above 0 s")
        self.window_s = window_s
        self.modality_embed = nn.ParameterDict({name: torch.randn(dim) * 0.02 for name in MODALITIES})
        count = check_layers(layers)
        self.fine = nn.ModuleList(
            MergedBlock(f"hierarchical.{i}.fine", dim, heads, attention, dropout, position=position)
            for i in range(count)
        )
        self.coarse = nn.ModuleList(
            MergedBlock(
                f"hierarchical.{i}.coarse", dim, heads, attention, dropout, exempt=MODALITIES, position=position
            )
            for i in range(count)
        )
        self.out_proj = nn.ModuleList(nn.Linear(dim, dim) for _ in range(count))

    def fuse(self, video: Tokens, audio: Tokens, stats: frozenset[str]) -> Fused:
        parts: list[Part] = [
            (name, zeroed(tokens.values + self.modality_embed[name], tokens))
            for name, tokens in (("video", video), ("audio", audio))
        ]
        places = (self.window_s, video.keep, video.times, audio.keep, audio.times)
        groups = once(video.memo, ("hierarchical", *places), lambda: self._groups(parts))
        measured: list[LayerStats] = []
        for fine, coarse, out_proj in zip(self.fine, self.coarse, self.out_proj, strict=True):
            near = [(name, groups[name].gather(tokens)) for name, tokens in parts]
            near, _ = fine(near, near, frozenset())
            summaries = [(name, groups[name].means(tokens)) for name, tokens in near]
            far, seen = coarse(summaries, summaries, stats)
            measured += seen
            parts = []
            for (name, grouped), (_, summary) in zip(near, far, strict=True):
                learned = out_proj(summary.values).flatten(0, 1)[:, None]
                updated = zeroed(grouped.values + learned, grouped)
                parts.append((name, groups[name].scatter(updated, video if name == "video" else audio)))
        return Fused(parts[0][1], parts[1][1], tuple(measured))

    def _groups(self, parts: list[Part]) -> dict[str, _Groups]:
        """Windows count from the first real token of either stream: a clip's own clock decides, not its batch."""
        keep = torch.cat([tokens.keep for _, tokens in parts], dim=1)
        times = torch.cat([tokens.times for _, tokens in parts], dim=1)
        first = torch.where(keep, times, torch.inf).amin(dim=1, keepdim=True)
        window = {
            name: torch.where(tokens.keep, (tokens.times - first) / self.window_s, 0.0).long() for name, tokens in parts
        }
        all_windows = torch.cat(list(window.values()), dim=1)
        windows = 1 + int(all_windows.max()) if len(keep) else 1  # sizes: read once a batch
        return {name: _group(window[name], tokens, windows) for name, tokens in parts}


def _group(window: Int[Tensor, "B L"], tokens: Tokens, windows: int) -> _Groups:
    clips, length = window.shape
    window = torch.where(tokens.keep, window, windows)  # padding: a window after the last, cut off below
    order = window.argsort(dim=1, stable=True)
    ordered = window.take_along_dim(order, dim=1)
    counts = torch.zeros(clips, windows + 1, dtype=torch.long, device=window.device)
    counts.scatter_add_(1, window, torch.ones_like(window))
    most = max(1, int(counts[:, :windows].max())) if clips else 1
    within = torch.arange(length, device=window.device) - (counts.cumsum(dim=1) - counts).take_along_dim(ordered, dim=1)
    slot = torch.where(ordered < windows, ordered * most + within, windows * most)
    index = torch.zeros(clips, windows * most + 1, dtype=torch.long, device=window.device).scatter_(1, slot, order)
    real = torch.zeros(clips, windows * most + 1, dtype=torch.bool, device=window.device).scatter_(1, slot, True)
    place = torch.empty_like(order).scatter_(1, order, slot.clamp(max=windows * most - 1))
    index, shape = index[:, :-1], (clips * windows, most)
    times = tokens.times.take_along_dim(index, dim=1).reshape(shape)
    near = Tokens(times[..., None], real[:, :-1].reshape(shape), times)
    centre = (times * _share(near).to(times.dtype)).sum(dim=1).reshape(clips, windows)
    far = Tokens(centre[..., None], near.present.reshape(clips, windows), centre)
    return _Groups(index, place, near, far)


def _share(grouped: Tokens) -> Float[Tensor, "N n"]:
    """Of each token in the mean of its window; 0 for a place without one."""
    weight = grouped.keep.to(torch.promote_types(grouped.times.dtype, torch.float32))
    return weight / weight.sum(dim=1, keepdim=True).clamp(min=1.0)
