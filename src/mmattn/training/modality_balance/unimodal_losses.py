"""modality_balance=unimodal_losses: each modality is also trained alone."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mmattn.errors import UsageError
from mmattn.model import AVModel
from mmattn.training.modality_balance.interface import ModalityBalance
from mmattn.types import Batch, Modality, Tokens
from mmattn.weighting.causal import alone


class UnimodalLosses(ModalityBalance):
    """Adds `weight` x the losses of tags and captions with each modality alone (after Wang et al. 2020).

    Clips without the modality do not count.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        if weight <= 0:
            raise UsageError(f"modality_balance.weight={weight:g}: expected a number above 0")
        self.weight = weight

    def terms(self, model: AVModel, video: Tokens, audio: Tokens, batch: Batch) -> dict[str, Tensor]:
        terms = {}
        streams: dict[Modality, Tokens] = {"video": video, "audio": audio}
        for name, tokens in streams.items():
            having = replace(batch, real=batch.real & tokens.present)
            losses = model.losses(model.fuse(*alone(name, video, audio)), having)
            terms[f"loss_{name}"] = self.weight * torch.stack(list(losses.values())).sum()
        return terms
