"""Mean fusion: every token gets the mean of the other stream added, through one linear map a direction."""

import torch
from torch import nn

from mmattn.fusion.interface import Fusion
from mmattn.types import Fused, Tokens


class MeanFusion(Fusion):
    reference = "examples/my_fusion"  # for `mmattn show fusion`
    weighs = None  # it has no attention or gate whose share could be reported

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.to_video, self.to_audio = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def fuse(self, video: Tokens, audio: Tokens, stats: frozenset[str]) -> Fused:
        return Fused(with_mean_of(video, audio, self.to_video), with_mean_of(audio, video, self.to_audio))


def with_mean_of(own: Tokens, other: Tokens, through: nn.Linear) -> Tokens:
    keep = other.keep[..., None]  # (B, L, 1), True where a token is real; none is where the modality is missing
    mean = (other.values * keep).sum(1, keepdim=True) / keep.sum(1, keepdim=True).clamp(min=1)
    return own.with_values(torch.where(own.keep[..., None], own.values + through(mean), 0.0))
