"""A decoded clip becomes arrays of fixed shape: frames on a grid in seconds, and a log-mel spectrogram.

In two stages, because audio is augmented before its spectrogram: a `PaddedClip` has the waveform, a `Sample` has the
spectrogram. The `ClipSpec` fixes the shapes; the keep masks mark what is real. Checkpoints contain it, so that
prediction prepares its input exactly as training did.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from mmattn.data.prepare.mel import FrontEnd, KaldiFbank, LogMel
from mmattn.media.read.audio.downmix import DOWNMIXES, Downmix
from mmattn.media.read.request import Request, check_resize
from mmattn.media.read.video.render import Fit
from mmattn.media.read.video.resample import RESAMPLES, Resample
from mmattn.media.read.video.tone_map import HDRS, Hdr
from mmattn.types import ByteRange, Clip

Reader = Callable[[Path | ByteRange, Request], Clip]
FITS: tuple[Fit, ...] = ("stretch", "crop", "pad")  # those with the same shape for every clip
FRONT_ENDS: dict[str, type[FrontEnd]] = {"log_mel": LogMel, "kaldi": KaldiFbank}
_CHOICES = {"fit": FITS, "spectrogram": tuple(FRONT_ENDS), "hdr": HDRS, "downmix": DOWNMIXES, "resample": RESAMPLES}


@dataclass(frozen=True)
class Canvas:
    """The decoded frames: `size` (height, width) in pixels, and `fit` and `resize` as in a ClipSpec."""

    size: tuple[int, int]
    fit: Fit
    resize: int | tuple[int, int] | None = None


@dataclass(frozen=True)
class PaddedClip:
    """One clip in the fixed shapes of its spec, with its audio as a waveform. Times as in `Sample`."""

    frames: UInt8[Tensor, "T 3 H W"]
    frame_keep: Bool[Tensor, " T"]
    frame_times: Float[Tensor, " T"]
    waveform: Float[Tensor, " N"]
    heard: int  # samples from the start to the end of the audio; the rest is padding, 0: no audio


@dataclass(frozen=True)
class Sample:
    """One clip as a model sees it. Times are in s after the start of its span."""

    frames: UInt8[Tensor, "T 3 H W"]
    frame_keep: Bool[Tensor, " T"]
    frame_times: Float[Tensor, " T"]
    spectrogram: Float[Tensor, "F M"]
    spectrogram_keep: Bool[Tensor, " F"]
    spectrogram_times: Float[Tensor, " F"]
    waveform: Float[Tensor, " N"]  # N = 0 unless the spec keeps it
    heard: int  # samples of it up to the end of the audio


@dataclass(frozen=True)
class ClipSpec:
    """What a model sees of a clip: `seconds` of it, `fps` frames a second of height x width, `mels` mel bands.

    `fit`: for frames of another shape, "stretch", "crop" (fill, cut out the middle) or "pad" (black borders).
    `resample`, `resize`: the library whose resizing is used, and the size before the middle is cut; see Renderer.
    `spectrogram`: the front end, "log_mel" or "kaldi". `waveform`: keep it, for encoders with their own front end.
    `hdr`, `deinterlace`: see Renderer; the defaults are those of older runs, whose configs lack them.
    `video`, `audio`: whether the modality is used; if not, it is not decoded and missing in every clip.
    `downmix`: how more than two channels become one, "bs775" (ITU-R) or "mean".
    """

    seconds: float = 3.0
    fps: float = 8.0
    height: int = 48
    width: int = 48
    sample_rate: int = 16000
    mels: int = 64
    hop_s: float = 0.01
    window_s: float = 0.025
    fit: Fit = "stretch"
    spectrogram: Literal["log_mel", "kaldi"] = "log_mel"
    waveform: bool = False
    video: bool = True
    audio: bool = True
    hdr: Hdr = "as_is"
    deinterlace: bool = False
    resample: Resample = "swscale"
    resize: int | tuple[int, int] | None = None
    downmix: Downmix = "mean"  # of models whose configs lack it; new ones have bs775

    def __post_init__(self) -> None:
        for name, usual in (("fit", "stretch"), ("resample", "swscale")):
            if getattr(self, name) is None:  # left to the encoder, and height and width were set instead
                object.__setattr__(self, name, usual)
        if isinstance(self.resize, list):  # from a config file
            object.__setattr__(self, "resize", tuple(self.resize))
        self._check_values()
        try:
            check_resize(self.resize, (self.height, self.width), self.fit)
        except ValueError as error:
            raise ValueError(f"data.clip.{error}") from None
        if not (self.video or self.audio):
            raise ValueError("data.clip.video=false and data.clip.audio=false leave nothing to learn from")

    def _check_values(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0:
                raise ValueError(f"data.clip.{name} must be above 0, got {value}")
        for name, valid in _CHOICES.items():
            if getattr(self, name) not in valid:
                raise ValueError(f"data.clip.{name} must be one of {', '.join(valid)}, got {getattr(self, name)!r}")
        if not isinstance(self.deinterlace, bool):
            raise ValueError(f"data.clip.deinterlace must be true or false, got {self.deinterlace!r}")

    @property
    def frame_count(self) -> int:
        """Frames of a clip; one of padding if no video is used."""
        return max(1, round(self.seconds * self.fps)) if self.video else 1

    @property
    def samples(self) -> int:
        """Samples of the waveform."""
        return max(1, round(self.seconds * self.sample_rate))

    @property
    def front_end(self) -> FrontEnd:
        """The front end from waveform to spectrogram. Hop and window are rounded to whole samples."""
        hop, window = (max(1, round(seconds * self.sample_rate)) for seconds in (self.hop_s, self.window_s))
        return FRONT_ENDS[self.spectrogram](self.sample_rate, self.mels, hop, window)

    def times(self, start: float, end: float) -> list[float]:
        """The grid times of a span, s: the middle of each frame's interval, up to `end`."""
        grid = [start + (k + 0.5) / self.fps for k in range(self.frame_count)]
        return [time for time in grid if time < end] or [start]

    def read(
        self,
        media: Path | ByteRange,
        start: float = 0.0,
        end: float | None = None,
        *,
        reader: Reader | None = None,
        canvas: Canvas | None = None,
        measure_end: bool = False,
    ) -> Clip:
        """Decode the span [start, start + seconds), cut at `end`, with frames on `canvas` (None: the model's size).

        `reader` None: in this process. `measure_end`: see Request. Raises MediaError.
        """
        canvas = canvas or Canvas((self.height, self.width), self.fit, self.resize)
        stop = start + self.seconds if end is None else min(end, start + self.seconds)
        request = Request(
            times=self.times(start, stop) if self.video else None,
            start=start,
            end=stop,
            size=canvas.size,
            fit=canvas.fit,
            resample=self.resample,
            resize=canvas.resize,
            audio_rate=self.sample_rate,
            video=self.video,
            audio=self.audio,
            hdr=self.hdr,
            deinterlace=self.deinterlace,
            measure_end=measure_end,
            downmix=self.downmix,
        )
        read = reader or _read_here
        clip = read(media, request)
        if self.video and start == 0 and "no_frames" in clip.issues:  # ends before the first time, as stills do
            clip = read(media, replace(request, times=[start]))
        return clip

    def prepare(self, clip: Clip) -> Sample:
        """Both stages at once, without augmentation."""
        return self.finish(self.pad(clip))

    def pad(self, clip: Clip) -> PaddedClip:
        """Pad to the fixed shapes. Missing video has an all-False mask, missing audio has heard 0."""
        start = clip.span[0]
        frames = torch.zeros(self.frame_count, 3, self.height, self.width, dtype=torch.uint8)
        frame_keep = torch.zeros(self.frame_count, dtype=torch.bool)
        frame_times = (torch.arange(self.frame_count) + 0.5) / self.fps
        if self.video and clip.frames is not None:
            count = min(len(clip.frames), self.frame_count)
            frames[:count] = clip.frames[:count]
            frame_keep[:count] = True
            frame_times[:count] = (clip.frame_times[:count] - start).float()
        waveform = torch.zeros(self.samples)
        heard = 0
        if self.audio and clip.waveform is not None:
            offset = round((clip.audio_start - start) * self.sample_rate)
            sound = clip.waveform[max(0, -offset) :][: max(0, self.samples - max(0, offset))]
            if sound.any():  # digital silence is a missing modality
                heard = max(0, offset) + len(sound)
                waveform[heard - len(sound) : heard] = sound
        return PaddedClip(frames, frame_keep, frame_times, waveform, heard)

    def finish(self, clip: PaddedClip) -> Sample:
        """Compute the spectrogram; rows after the audio's end are the floor and masked."""
        front_end = self.front_end
        length = front_end.rows(self.samples)
        heard = front_end.rows(clip.heard) if clip.heard else 0
        spectrogram = torch.full((length, self.mels), front_end.floor)
        if heard:
            spectrogram[:heard] = front_end(clip.waveform)[:heard]
        return Sample(
            frames=clip.frames,
            frame_keep=clip.frame_keep,
            frame_times=clip.frame_times,
            spectrogram=spectrogram,
            spectrogram_keep=torch.arange(length) < heard,
            spectrogram_times=front_end.times(length),
            waveform=clip.waveform if self.waveform else torch.zeros(0),
            heard=clip.heard if self.waveform else 0,
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return asdict(self)


def _read_here(media: Path | ByteRange, request: Request) -> Clip:
    from mmattn.media.read.decode import read_request

    return read_request(request, media, follow_symlinks=True)
