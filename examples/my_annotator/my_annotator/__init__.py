"""An annotator of one's own: it finds files with loud sound."""

from __future__ import annotations

from mmattn.inference.annotators.base.interface import Annotation, Annotator, FileWindow, Findings, Setting


class Loud(Annotator):
    """`threshold`: of the peak, where 1 is full scale."""

    version = "my_annotator 0.1.0"
    needs_audio = True

    def __init__(self, setting: Setting, threshold: float = 0.5, name: str = "loud") -> None:
        self.name = name
        self.threshold = threshold if setting.threshold is None else setting.threshold

    def begin(self, start: float) -> Annotation:
        return Peak(self)


class Peak(Annotation):
    """The work on one file, which comes in windows."""

    def __init__(self, loud: Loud) -> None:
        self.loud, self.peak, self.found = loud, 0.0, Findings()

    def update(self, window: FileWindow) -> None:
        if (waveform := window.own_waveform) is not None and waveform.numel():
            self.peak = max(self.peak, float(waveform.abs().max()))
            self.found = Findings({"tags": []}, ("audio",), window.start + waveform.numel() / window.rate)

    def findings(self) -> Findings:
        if self.peak >= self.loud.threshold:
            tag = {"tag": "loud", "from": self.loud.name, "modality": "audio", "score": round(self.peak, 4)}
            self.found.parts["tags"].append(tag)
        return self.found
