"""Cross-attention of caption tokens to the clip.

Shape legend: B clips, L tokens of a caption, M tokens of the memory, S segments of the memory, H heads, D channels.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.attention.interface import Attention, AttentionFactory, Geometry
from mmattn.errors import UsageError
from mmattn.tasks.captioning.memory import MISSING
from mmattn.types import Modality

KeyValue = tuple[Tensor, Tensor]


class ClipAttention(nn.Module):
    """Multi-head attention of words to the clip's tokens, with a mechanism of mmattn.attention."""

    def __init__(self, dim: int, heads: int, attention: AttentionFactory, memory_dim: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(dim, dim)
        self.kv_proj = nn.Linear(memory_dim or dim, 2 * dim)
        self.attention: Attention = attention(heads, dim // heads)
        self.out_proj = nn.Linear(dim, dim)
        self._check()

    def keys_values(self, values: Float[Tensor, "B M D"]) -> KeyValue:
        """The keys and values of the memory, (B, H, M, D / H) each."""
        k, v = self.kv_proj(values).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return k, v

    def forward(
        self, x: Float[Tensor, "B L D"], memory: KeyValue, geometry: Geometry, *, mass: bool = False
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B H L S"] | None]:
        """The output and, with `mass`, the attention on each segment of the memory if the mechanism reports it."""
        stats = frozenset({"mass"}) & self.attention.supports if mass else frozenset()
        q = self.q_proj(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
        out = self.attention(q, *memory, Geometry(), geometry, stats)
        return self.out_proj(out.out.transpose(1, 2).flatten(2)), out.stats.get("mass")

    def _check(self) -> None:
        """Raises UsageError for a mechanism that needs times of queries: words have none."""
        size = self.out_proj.in_features // self.heads
        q, k = torch.zeros(1, self.heads, 1, size), torch.zeros(1, self.heads, 4, size)
        geometry = Geometry(torch.ones(1, 4, dtype=torch.bool), torch.arange(4.0)[None], (("video", 2), ("audio", 2)))
        try:
            with torch.no_grad():
                self.attention(q, k, k, Geometry(), geometry)
        except (ValueError, TypeError, AttributeError, AssertionError) as error:
            name = type(self.attention).__name__
            raise UsageError(f"captions.attention: {name} needs times, which words do not have ({error})") from None


def modality_shares(masses: list[Float[Tensor, "B L S"]], geometry: Geometry) -> dict[Modality, Float[Tensor, "B L"]]:
    """The mean over layers of the attention on each modality, as a share of that on the real tokens of both."""
    mean = torch.stack(masses).mean(dim=0).float()
    by_name = {name: mean[..., i] for i, (name, _) in enumerate(geometry.segments) if name != MISSING}
    total = sum(by_name.values())
    assert isinstance(total, Tensor)
    return {name: mass / total.clamp(min=1e-9) for name, mass in by_name.items()}  # type: ignore[return-value]
