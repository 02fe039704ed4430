"""Many channels become one: the plain mean, or for more than two the downmix of ITU-R BS.775-3, annex 4, table 2.

Mono from L, R, C, Ls, Rs is 0.7071 L + 0.7071 R + C + 0.5 Ls + 0.5 Rs, without the low-frequency channel. The
weights are divided by their sum, so nothing can clip: a signal in all channels keeps its level, and dialogue in
the centre of 5.1 comes out at -10.7 dB (the plain mean gives -15.6 dB). It is half of what FFmpeg's `-ac 2` gives as
left plus right. FFmpeg's own mono downmix has a gain that depends on layout and sample format.
"""

from __future__ import annotations

import math
from typing import Any, Literal, cast, get_args

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.plane import AudioPlane
from av.audio.resampler import AudioResampler

Downmix = Literal["bs775", "mean"]
DOWNMIXES: tuple[Downmix, ...] = get_args(Downmix)

_FRONT, _CENTRE, _SURROUND, _LOW = math.sqrt(0.5), 1.0, 0.5, 0.0
_WEIGHTS = {  # FFmpeg's name of a channel -> its weight before they are divided by their sum
    **dict.fromkeys(("FL", "FR", "FLC", "FRC", "WL", "WR", "DL", "DR"), _FRONT),
    "FC": _CENTRE,
    **dict.fromkeys(("BL", "BR", "SL", "SR", "SDL", "SDR"), _SURROUND),
    "BC": math.sqrt(0.5),  # the one surround channel of 3/1, and of 6.1
    **dict.fromkeys(("TC", "TFL", "TFC", "TFR", "TBL", "TBC", "TBR", "TSL", "TSR", "BFC", "BFL", "BFR"), _SURROUND),
    **dict.fromkeys(("LFE", "LFE2"), _LOW),
}
_USUAL = {5: "5.0", 6: "5.1", 8: "7.1"}  # channels -> their order where a file (PCM in Matroska) names none
_MANY = 8  # channels; PyAV's planes of a planar frame run past its end from here on, into a segmentation fault
_SCALES = {  # sample format -> full scale, type, type that holds a sum of channels
    "u8": (2.0**7, np.uint8, np.float32),
    "s16": (2.0**15, np.int16, np.float32),
    "s32": (2.0**31, np.int32, np.float64),
    "s64": (2.0**63, np.int64, np.float64),
    "flt": (1.0, np.float32, np.float32),
    "dbl": (1.0, np.float64, np.float64),
}


def weights(layout: AudioLayout, downmix: Downmix) -> tuple[float, ...] | None:
    """A weight for each channel, with the sum 1; None: the plain mean, also where the channels are not known."""
    names = [channel.name for channel in layout.channels]
    if not all(name in _WEIGHTS for name in names):
        names = [channel.name for channel in AudioLayout(_USUAL[len(names)]).channels] if len(names) in _USUAL else []
    if downmix == "mean" or len(names) <= 2:
        return None
    found = [_WEIGHTS[name] for name in names]
    total = sum(found)
    return tuple(weight / total for weight in found) if total else None


@np.errstate(invalid="ignore", over="ignore")  # damaged float formats hold any value; AudioTrack replaces them
def mono(frame: AudioFrame, mix: tuple[float, ...] | None = None) -> np.ndarray:
    """The frame's channels weighted by `mix`, None: their mean; (samples,) float32, full scale = 1."""
    planar, count = frame.format.is_planar, frame.layout.nb_channels
    if planar and count >= _MANY:
        frame, planar = _packed(frame), False
    scale, dtype, exact = _SCALES[frame.format.packed.name]
    planes = [values(plane, dtype, frame.samples * (1 if planar else count)) for plane in frame.planes]
    channels = planes if planar else planes[0].reshape(-1, count).T
    if mix is None:
        mean = np.add(channels[0], channels[1], dtype=exact) if count > 1 else channels[0].astype(exact)
        for channel in channels[2:]:
            mean += channel
        gain = 1 / (count * scale)
    else:
        mean = np.zeros(frame.samples, exact)
        for channel, weight in zip(channels, mix, strict=True):
            if weight:
                mean += channel * exact(weight)
        gain = 1 / scale
    if dtype == np.uint8:
        mean -= 128 * (count if mix is None else 1)
    mean *= gain
    return mean.astype(np.float32, copy=False)


def values(plane: AudioPlane, dtype: type, count: int) -> np.ndarray:
    """The first `count` values of a plane, shared with it."""
    return np.frombuffer(cast(Any, plane), dtype, count)


def _packed(frame: AudioFrame) -> AudioFrame:
    """The same samples side by side in one plane."""
    resampler = AudioResampler(format=frame.format.packed, layout=frame.layout, rate=frame.sample_rate)
    (packed,) = resampler.resample(frame)
    return packed
