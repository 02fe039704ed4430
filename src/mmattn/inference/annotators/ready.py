"""`mmattn.load("pretrained")`: all annotators that are installed, as one object in Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmattn.config.compose import build, compose
from mmattn.inference.annotators import catalogue
from mmattn.inference.annotators.base.interface import Setting
from mmattn.inference.annotators.base.shared_decode import Annotators
from mmattn.inference.records.result import Result
from mmattn.media.isolate.reader import IsolatedReader


class Ready:
    """`Ready()("clip.mp4")` gives the Result of one file, `records` those of many, as plain data.

    Raises nothing for a bad file. `annotators`: some by name, else all that are installed. A context manager: what
    decodes is a process of its own, which `close` ends.
    """

    def __init__(self, *settings: str, device: str = "cpu") -> None:
        """`settings`: as `mmattn predict model=pretrained` takes them, "annotators=[speech]", "sounds.threshold=.3".

        Raises UsageError for wrong ones, and where nothing is installed.
        """
        given = [*catalogue.reaching(settings), "model=pretrained", "source=."]
        config = compose("predict", given)
        names, self.left_out = catalogue.choose(config)
        weights = None if config["weights"] is None else str(config["weights"])
        setting = Setting(weights, config["hub"], config["threshold"], device, tuple(config["modalities"]))
        chosen = [build(config["annotator"][name], setting=setting) for name in names]
        self._annotators = Annotators(chosen, device=device)
        self._reader = IsolatedReader(follow_symlinks=True, deadline_s=config["deadline_s"])

    def __call__(self, path: str | Path) -> Result:
        return Result.from_dict(next(self.records([path])))

    def records(self, paths: Iterable[str | Path]) -> Iterator[dict[str, Any]]:
        """One record a file, in order."""
        return self._annotators.records(map(Path, paths), self._reader)

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> Ready:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
