"""Linear attention: exp(q k) becomes phi(q) . phi(k), so that the keys are summed once for all queries.

out_i = phi(q_i) . sum_j phi(k_j) v_j^T / phi(q_i) . sum_j phi(k_j)      (Katharopoulos et al. 2020, eq. 4 and 5)

Shape legend as in interface.py; F features.

"""

from __future__ import annotations

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from mmattn.attention.interface import Attention, AttentionOutput, Geometry
from mmattn.attention.statistics import check_cap, columns, read_columns


class FeatureAttention(Attention):
    """Attention with weights phi(q_i) . phi(k_j), divided by their sum. Subclasses define phi."""

    supports = frozenset({"weights", "mass", "mean_time"})
    time_cost = "(Lq + Lk) F D"
    memory_cost = "(Lq + Lk) (F + D)"

    @abstractmethod
    def phi(
        self, q: Float[Tensor, "B H Lq D"], k: Float[Tensor, "B H Lk D"], k_geometry: Geometry
    ) -> tuple[Float[Tensor, "B H Lq F"], Float[Tensor, "B H Lk F"]]:
        """Features of queries and keys: not negative, 0 for padded keys. A factor that a query's keys share cancels."""

    def attend(
        self,
        q: Float[Tensor, "B H Lq D"],
        k: Float[Tensor, "B H Lk D"],
        v: Float[Tensor, "B H Lk D"],
        q_geometry: Geometry,
        k_geometry: Geometry,
        stats: frozenset[str],
    ) -> AttentionOutput:
        if "weights" in stats:
            check_cap(q, k)
        width, wide = v.shape[3], torch.promote_types(q.dtype, torch.float32)
        with torch.autocast(q.device.type, enabled=False):  # sums over all keys need their digits
            of_q, of_k = self.phi(q.to(wide), k.to(wide), k_geometry)
            more = pad(columns(k, k_geometry, stats), (0, 1), value=1.0)[:, None].expand(-1, q.shape[1], -1, -1)
            found = of_q @ (of_k.mT @ torch.cat([v.to(wide), more], dim=-1))  # (B, H, Lq, D + C + 1)
            total = torch.where(found[..., -1:] > 0, found[..., -1:], 1.0)  # no key: 0 / 1
            found = found[..., :-1] / total
            measured = read_columns(found[..., width:], k_geometry, stats)
            if "weights" in stats:
                measured["weights"] = of_q @ of_k.mT / total
        return AttentionOutput(found[..., :width].to(v.dtype), measured)


def masked(of_k: Float[Tensor, "B H Lk F"], k_geometry: Geometry, value: float) -> Tensor:
    """`of_k` with `value` in place of the features of padded keys."""
    return of_k if k_geometry.keep is None else of_k.masked_fill(~k_geometry.keep[:, None, :, None], value)
