"""Dense scaled dot-product attention (Vaswani et al. 2017, eq. 1): every query reads every real key."""

from __future__ import annotations

from mmattn.attention.exact.attention import ExactAttention


class DenseAttention(ExactAttention):
    """All pairs, dot product, softmax. `cudnn` as in ExactAttention."""

    def __init__(self, heads: int, head_dim: int, cudnn: bool = False) -> None:
        super().__init__(heads, head_dim, cudnn=cudnn)
