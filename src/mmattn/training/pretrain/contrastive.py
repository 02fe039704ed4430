"""Contrastive pretraining: matches the video and audio of a clip among all clips of the global batch.

Shape legend: B clips of this process, G clips of all processes, D channels, E channels compared.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, distributed, nn
from torch.nn.functional import cross_entropy, normalize

from mmattn.errors import UsageError
from mmattn.model import AVModel
from mmattn.training.pretrain.objective import Objective
from mmattn.types import Batch, Tokens

MAX_SCALE = 100.0  # of the logits, as in CLIP


class Contrastive(Objective):
    """Symmetric InfoNCE (van den Oord et al. 2018; Radford et al. 2021, fig. 3) on the means of the encoders' tokens.

    Clips that lack a modality, or could not be read, are neither queries nor candidates.
    """

    def __init__(self, dim: int, embed: int = 128, temperature: float = 0.07) -> None:
        super().__init__()
        if embed < 1 or temperature <= 1 / MAX_SCALE:
            raise UsageError(f"pretrain: expected embed of 1 or more and temperature above {1 / MAX_SCALE:g}")
        self.video = nn.Linear(dim, embed)
        self.audio = nn.Linear(dim, embed)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / temperature)))

    def forward(self, model: AVModel, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        return self.compare(*model.encode(batch), batch.real)

    def compare(self, video: Tokens, audio: Tokens, real: Bool[Tensor, " B"]) -> dict[str, Tensor]:
        both, v, a = (
            real & video.present & audio.present,
            self._embed(video, self.video),
            self._embed(audio, self.audio),
        )
        rank, world, count = _rank(), _world(), len(real)
        most = count if self.training else _largest(count, real.device)  # a training batch divides among processes
        both, v, a = (gather(_padded(part, most)) for part in (both, v, a))
        own = slice(rank * most, rank * most + count)
        scale = self.log_scale.exp().clamp(max=MAX_SCALE)
        place = torch.arange(len(both), device=both.device)[own]
        ways = [scale * mine[own] @ other.T for mine, other in ((v, a), (a, v))]  # (B, G)
        ways = [logits.float().masked_fill(~both, torch.finfo(torch.float32).min) for logits in ways]
        queries, total = both[own], both.sum().clamp(min=1)
        sums = [(cross_entropy(logits, place, reduction="none") * queries).sum() for logits in ways]
        found = [((logits.argmax(dim=1) == place) & queries).sum() for logits in ways]
        return {
            "loss": (sums[0] + sums[1]) / 2 * world / total,
            "retrieved": (found[0] + found[1]) / 2 * world / total,  # in first place
            "temperature": 1 / scale.detach(),
        }

    @staticmethod
    def _embed(tokens: Tokens, project: nn.Linear) -> Float[Tensor, "B E"]:
        keep = tokens.keep[..., None].to(tokens.values.dtype)
        mean = (tokens.values * keep).sum(dim=1) / keep.sum(dim=1).clamp(min=1)
        return normalize(project(mean).float(), dim=1)


class _Gather(torch.autograd.Function):
    """Every process's part, in the order of ranks. Each part gets the gradients of all processes' losses."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:  # type: ignore[override]
        parts = [torch.empty_like(part) for _ in range(_world())]
        distributed.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        gradient = gradient.contiguous()
        distributed.all_reduce(gradient)
        return gradient.chunk(_world())[_rank()]


def _padded(part: Tensor, most: int) -> Tensor:
    """(B, ...) -> (most, ...), with zeros (False) at the end."""
    return torch.cat([part, part.new_zeros(most - len(part), *part.shape[1:])]) if len(part) < most else part


def _largest(count: int, device: torch.device) -> int:
    """The largest count of any process. Collective."""
    if _world() == 1:
        return count
    counts = torch.tensor(count, device=device)
    distributed.all_reduce(counts, distributed.ReduceOp.MAX)
    return int(counts)


def gather(part: Tensor) -> Tensor:
    """(B, ...) of each process -> (G, ...), with gradients. All processes have the same B."""
    if _world() == 1:
        return part
    if part.dtype == torch.bool:
        return _Gather.apply(part.to(torch.uint8)).bool()  # type: ignore[union-attr]
    return _Gather.apply(part)  # type: ignore[return-value]


def _world() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def _rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0
