"""`mmattn.load("pretrained")`: the annotators that are installed, as one object in Python."""

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
    """`Ready()("clip.mp4")` returns the Result of one file; `records` yields the records of many.

    A file that cannot be read raises nothing; its record says what is wrong. `left_out`: annotators that are not
    installed, with what is missing. Files are decoded in a process of its own, which `close`, or the end of a `with`
    block, ends.
    """

    def __init__(self, *settings: str, device: str = "cpu") -> None:
        """`settings`: those of `mmattn predict model=pretrained`, such as "annotators=[speech]", "sounds.threshold=.3".

        Raises UsageError for wrong settings, and if no annotator is installed.
        """
        given = [*catalogue.with_full_keys(settings), "model=pretrained", "source=."]
        config = compose("predict", given)
        names, self.left_out = catalogue.choose(config)
        weights = None if config["weights"] is None else str(config["weights"])
        setting = Setting(weights, config["hub"], config["threshold"], device, tuple(config["modalities"]))
        chosen = [build(config["annotator"][name], setting=setting) for name in names]
        self._annotators = Annotators(chosen, device=device)
        self._reader = IsolatedReader(follow_symlinks=True, deadline_s=config["deadline_s"])

    def __call__(self, path: str | Path) -> Result:
        """What the annotators find in one file."""
        return Result.from_dict(next(self.records([path])))

    def records(self, paths: Iterable[str | Path]) -> Iterator[dict[str, Any]]:
        """Yield one record for each file, in order."""
        return self._annotators.records(map(Path, paths), self._reader)

    def close(self) -> None:
        """End the decoding process."""
        self._reader.close()

    def __enter__(self) -> Ready:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
