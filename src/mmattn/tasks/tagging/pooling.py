"""From a stream of tokens to one vector for each question (a free tag or an exclusive group).

Shape legend: B clips, L tokens, D channels, Q questions.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.types import Tokens


class QuestionPool(nn.Module):
    """Attention pooling for each question, (B, L, D) -> (B, Q, D), and the maximum of each channel (B, D).

    The maxima detect an event in one of hundreds of tokens from the first step on, while attention starts uniform and
    has to learn where to look. A clip without the modality gives learned vectors (not zeros, which would look like
    silence or black).
    """

    def __init__(self, dim: int, questions: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, questions, bias=False)  # softmax would cancel a bias
        self.norm_read = nn.LayerNorm(dim)
        self.norm_highest = nn.LayerNorm(dim)
        self.missing_read = nn.Parameter(torch.randn(questions, dim) * 0.02)
        self.missing_highest = nn.Parameter(torch.randn(dim) * 0.02)
        nn.init.zeros_(self.score.weight)

    def forward(self, tokens: Tokens) -> tuple[Float[Tensor, "B Q D"], Float[Tensor, "B D"]]:
        keep, present = tokens.keep[..., None], tokens.present
        read = self.norm_read(self.weights(tokens).to(tokens.values.dtype) @ tokens.values)
        highest = torch.where(keep, tokens.values, torch.finfo(tokens.values.dtype).min).amax(dim=1)
        highest = self.norm_highest(torch.where(present[:, None], highest, 0.0))
        return (
            torch.where(present[:, None, None], read, self.missing_read.to(read.dtype)),
            torch.where(present[:, None], highest, self.missing_highest.to(highest.dtype)),
        )

    def weights(self, tokens: Tokens) -> Float[Tensor, "B Q L"]:
        """The attention of each question on each token; all 0 for a clip without the modality."""
        scores = self.score(tokens.values).float().masked_fill(~tokens.keep[..., None], -torch.inf)  # (B, L, Q)
        return torch.softmax(scores, dim=1).nan_to_num(0.0).mT
