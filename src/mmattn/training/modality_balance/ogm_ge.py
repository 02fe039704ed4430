"""modality_balance=ogm_ge: the encoder of the stronger modality takes smaller steps."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.optim import Optimizer

from mmattn.errors import UsageError
from mmattn.model import AVModel
from mmattn.training.modality_balance.interface import ModalityBalance
from mmattn.training.optim.gradients import encoders
from mmattn.types import MODALITIES, Batch, Modality, Tokens, widest
from mmattn.weighting.causal import alone


class OgmGe(ModalityBalance):
    """On-the-fly gradient modulation with generalization enhancement (Peng et al. 2022, eq. 6-10).

    s_m is the score of the clips' true tags from modality m alone, summed over the clips of a step that have both, and
    rho_v = s_v / s_a. The stronger encoder (rho > 1) takes a smaller step, k = 1 - tanh(alpha * rho); the other has
    k = 1. Gaussian noise with `noise` x the standard deviation of each weight matrix's gradient is added, unscaled.

    The paper scales the gradient of SGD. Adam would normalise the scale away, so the encoder's learning rate is scaled
    instead, which is the same step under SGD.
    """

    def __init__(self, alpha: float, noise: float, seed: int) -> None:
        super().__init__()
        if alpha <= 0 or noise < 0:
            raise UsageError(
                f"modality_balance: expected alpha above 0 and noise of 0 or more; got {alpha:g}, {noise:g}"
            )
        self.alpha = alpha
        self.noise = noise
        self.seed = seed

    def terms(self, model: AVModel, video: Tokens, audio: Tokens, batch: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            counted = batch.real & video.present & audio.present
            truth = batch.targets["tags"] * counted[:, None]
            share = truth / truth.sum(dim=1, keepdim=True).clamp(min=1e-9)  # of each true tag of a clip
            scored = [model.task.scores(model.task(model.fuse(*alone(m, video, audio)))) for m in MODALITIES]
            sums = widest(torch.stack([(share * scores).sum() for scores in scored]))
            self.sums = sums if self.sums is None else self.sums + sums
        return {}

    def before_step(self, model: AVModel, optimizer: Optimizer, step: int) -> dict[str, float]:
        if self.sums is None:
            return {}
        factors = self.factors(*self.sums.tolist())
        self.sums = None
        for group in optimizer.param_groups:  # the schedule sets each rate again after the step
            group["lr"] *= factors.get(group["part"], 1.0)
        if self.noise:
            self._add_noise(model, factors, step)
        return {f"balance/{name}": factor for name, factor in factors.items()}

    def factors(self, video: float, audio: float) -> dict[Modality, float]:
        """The factor k of each encoder, from the summed scores of each modality alone."""

        def k(own: float, other: float) -> float:
            ahead = own > other > 0
            return 1 - math.tanh(self.alpha * own / other) if ahead else 1.0

        return {"video": k(video, audio), "audio": k(audio, video)}

    def _add_noise(self, model: AVModel, factors: dict[Modality, float], step: int) -> None:
        """The noise depends only on (seed, step), so it is the same in every process and in a resumed run."""
        generators: dict[torch.device, torch.Generator] = {}
        for name, encoder in encoders(model).items():
            for weight in encoder.parameters():
                if weight.grad is None or weight.ndim < 2 or factors[name] == 0:
                    continue
                device = weight.device
                if device not in generators:
                    generators[device] = torch.Generator(device).manual_seed((self.seed * 1_000_003 + step) % 2**63)
                drawn = torch.randn(weight.shape, generator=generators[device], device=device, dtype=weight.dtype)
                weight.grad += drawn * (self.noise * weight.grad.std() / factors[name])
