"""pretrain=cav_mae: masked and contrastive pretraining at once."""

from __future__ import annotations

import torch
from torch import Tensor

from mmattn.errors import UsageError
from mmattn.model import AVModel
from mmattn.training.pretrain.contrastive import Contrastive
from mmattn.training.pretrain.mae import Masked
from mmattn.training.pretrain.objective import Objective
from mmattn.types import Batch


class CavMae(Objective):
    """Masked autoencoding plus `contrast` x the contrastive loss of the masked clips (Gong et al. 2023, eq. 4)."""

    def __init__(self, masked: Masked, contrastive: Contrastive, contrast: float = 0.01) -> None:
        super().__init__()
        if contrast <= 0:
            raise UsageError(f"pretrain.contrast={contrast:g}: expected a number above 0")
        self.masked = masked
        self.contrastive = contrastive
        self.contrast = contrast

    def forward(self, model: AVModel, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        covered, hidden = self.masked.hide(batch, generator)
        video, audio = model.encode(covered)
        masked = self.masked.restore(model.fuse(video, audio), hidden, batch)
        compared = self.contrastive.compare(video, audio, batch.real)
        more = {"loss_masked": masked.pop("loss"), "loss_contrast": compared.pop("loss")}
        return {"loss": more["loss_masked"] + self.contrast * more["loss_contrast"], **masked, **compared, **more}
