"""A decoded clip becomes arrays of fixed shape: frames on a grid in seconds, and a log-mel spectrogram.

In two stages, because sound is augmented before its spectrogram: a `PaddedClip` has the waveform, a `Sample` has the
spectrogram. Shapes are fixed by the `ClipSpec`; the keep masks say what is real. It travels in the checkpoint, so that
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
FITS: tuple[Fit, ...] = ("stretch", "crop", "pad")  # those that give every clip the same shape
FRONT_ENDS: dict[str, type[FrontEnd]] = {"log_mel": LogMel, "kaldi": KaldiFbank}


@dataclass(frozen=True)
class Canvas:
    """What is decoded of a picture: (height, width) in pixels, how it fits, and `resize` as a ClipSpec has it."""

    size: tuple[int, int]
    fit: Fit
    resize: int | tuple[int, int] | None = None


@dataclass(frozen=True)
class PaddedClip:
    """One clip at the fixed shapes of its spec, its sound still a waveform. Times as in `Sample`."""

    frames: UInt8[Tensor, "T 3 H W"]
    frame_keep: Bool[Tensor, " T"]
    frame_times: Float[Tensor, " T"]
    waveform: Float[Tensor, " N"]
    heard: int  # samples from the start to where the sound ends; the rest is padding, 0: no sound


@dataclass(frozen=True)
class Sample:
    """One clip as a model sees it. Times are seconds from the start of its span."""

    frames: UInt8[Tensor, "T 3 H W"]
    frame_keep: Bool[Tensor, " T"]
    frame_times: Float[Tensor, " T"]
    spectrogram: Float[Tensor, "F M"]
    spectrogram_keep: Bool[Tensor, " F"]
    spectrogram_times: Float[Tensor, " F"]
    waveform: Float[Tensor, " N"]  # N = 0 unless the spec keeps it
    heard: int  # samples of it up to where the sound ends


@dataclass(frozen=True)
class ClipSpec:
    """What a model sees of a clip: `seconds` of it, `fps` frames a second of height x width, `mels` mel bands.

    `fit`: what becomes of a picture of another shape, "stretch", "crop" (fill, cut the middle), "pad" (black borders).
    `resample`, `resize`: by which library's arithmetic, and to what before the middle is cut; see media's Renderer.
    `spectrogram`: the front end, "log_mel" or "kaldi". `waveform`: keep it, for encoders that bring their own.
    `hdr`, `deinterlace`: see media's Renderer; as they were before they were there, for the configs of older runs.
    `video`, `audio`: whether it sees, and hears, at all; what it does not is not decoded, and missing in every clip.
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
    downmix: Downmix = "mean"  # what models were trained with whose configs do not say; new ones say bs775

    def __post_init__(self) -> None:
        for name, usual in (("fit", "stretch"), ("resample", "swscale")):
            if getattr(self, name) is None:  # open for an encoder, and height and width were set instead
                object.__setattr__(self, name, usual)
        for name, value in asdict(self).items():
            if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0:
                raise ValueError(f"data.clip.{name} must be above 0, got {value}")
        valid_names = {"fit": FITS, "spectrogram": tuple(FRONT_ENDS), "hdr": HDRS, "downmix": DOWNMIXES}
        valid_names["resample"] = RESAMPLES
        for name, valid in valid_names.items():
            if getattr(self, name) not in valid:
                raise ValueError(f"data.clip.{name} must be one of {', '.join(valid)}, got {getattr(self, name)!r}")
        if isinstance(self.resize, list):  # out of a config file
            object.__setattr__(self, "resize", tuple(self.resize))
        try:
            check_resize(self.resize, (self.height, self.width), self.fit)
        except ValueError as error:
            raise ValueError(f"data.clip.{error}") from None
        if not isinstance(self.deinterlace, bool):
            raise ValueError(f"data.clip.deinterlace must be true or false, got {self.deinterlace!r}")
        if not (self.video or self.audio):
            raise ValueError("data.clip.video=false and data.clip.audio=false leave nothing to learn from")

    @property
    def frame_count(self) -> int:
        """One, of padding, where no pictures are seen."""
        return max(1, round(self.seconds * self.fps)) if self.video else 1

    @property
    def samples(self) -> int:
        """Samples of the waveform."""
        return max(1, round(self.seconds * self.sample_rate))

    @property
    def front_end(self) -> FrontEnd:
        """What turns the waveform into the spectrogram. Its hop and window are whole samples."""
        hop, window = (max(1, round(seconds * self.sample_rate)) for seconds in (self.hop_s, self.window_s))
        return FRONT_ENDS[self.spectrogram](self.sample_rate, self.mels, hop, window)

    def times(self, start: float, end: float) -> list[float]:
        """The grid of a span: the middle of each frame's interval, up to `end`."""
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
        """Decode the span [start, start + seconds), cut at `end`, pictures on `canvas`; None: as they will be seen.

        `reader` None: in this process. `measure_end`: as Request has it. Raises MediaError.
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
        if self.video and start == 0 and "no_frames" in clip.issues:  # over before the first time, as a still is
            clip = read(media, replace(request, times=[start]))
        return clip

    def prepare(self, clip: Clip) -> Sample:
        """Both stages at once, for when nothing is augmented."""
        return self.finish(self.pad(clip))

    def pad(self, clip: Clip) -> PaddedClip:
        """To the fixed shapes, everything at its time. Missing pictures have all-False masks, missing sound heard 0."""
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
        """The waveform becomes the spectrogram; rows after the sound's end are the floor and masked."""
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
        return asdict(self)


def _read_here(media: Path | ByteRange, request: Request) -> Clip:
    from mmattn.media.read.decode import read_request

    return read_request(request, media, follow_symlinks=True)
