"""Tone mapping of HDR (PQ, HLG) to BT.709, by FFmpeg's common recipe.

    zscale=t=linear:npl=100, zscale=p=bt709, tonemap=hable:desat=0, zscale=t=bt709

PyAV's FFmpeg is built without zscale, so it is computed here. 1.0 is 100 cd/m2, the peak 1000 cd/m2 for every file: a
file's own peak may be given in one frame only, and a frame must not depend on how it was reached.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np

Hdr = Literal["tonemap", "as_is"]
HDRS: tuple[Hdr, ...] = ("tonemap", "as_is")
_TRANSFERS = {16: "pq", 18: "hlg"}  # SMPTE ST 2084 and ARIB STD-B67, as ITU-T H.273 numbers them
_PEAK = 10.0  # 1000 cd/m2

# From linear RGB to that of BT.709, by the primaries' number in ITU-T H.273; the white point is D65 in all.
_BT2020 = ((1.660491, -0.587641, -0.072850), (-0.124550, 1.132900, -0.008349), (-0.018151, -0.100579, 1.118730))
_P3 = ((1.224940, -0.224940, 0.0), (-0.042057, 1.042057, 0.0), (-0.019638, -0.078636, 1.098274))
_TO_BT709 = {1: ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), 12: _P3}


def transfer(color_trc: int) -> str | None:
    """The transfer function "pq" or "hlg" of an HDR video; None for others."""
    return _TRANSFERS.get(int(color_trc))


def tone_map(rgb: np.ndarray, kind: str, primaries: int) -> np.ndarray:
    """Map (H, W, 3) uint16, full range, of `kind` "pq" or "hlg" to (H, W, 3) uint8 in BT.709.

    `primaries`: by H.273's numbers; unknown ones are taken as BT.2020.
    """
    linear = _linear(kind)[rgb] @ np.array(_TO_BT709.get(int(primaries), _BT2020), np.float32).T
    brightest = np.maximum(linear.max(axis=-1, keepdims=True), 1e-6)
    linear *= _hable(brightest) / (_hable(np.array(_PEAK, np.float32)) * brightest)  # keeps the hue
    return np.round(255 * np.clip(linear, 0, 1) ** np.float32(1 / 2.4)).astype(np.uint8)  # ITU-R BT.1886


@cache
def _linear(kind: str) -> np.ndarray:
    """The light of each code value (65536,) float32, 1 = 100 cd/m2."""
    value = np.arange(65536) / 65535
    if kind == "pq":  # SMPTE ST 2084, its constants' names
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        power = value ** (1 / m2)
        light = 100 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    else:  # ITU-R BT.2100; the system gamma of 1.2 for each channel separately, as in zscale
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = 10 * np.where(value <= 0.5, value**2 / 3, (np.exp((value - c) / a) + b) / 12) ** 1.2
    return light.astype(np.float32)


def _hable(x: np.ndarray) -> np.ndarray:
    """John Hable's filmic curve (GDC 2010), as FFmpeg's tonemap has it."""
    return (x * (0.15 * x + 0.05) + 0.004) / (x * (0.15 * x + 0.5) + 0.06) - 0.02 / 0.3
