"""The settings of the annotator captions; conf/annotator/captions.yaml describes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmattn.inference.annotators.captions.requirements import LEVELS, check_settings


@dataclass(frozen=True, kw_only=True)
class CaptionSettings:
    """Raises UsageError for settings that are wrong or exclude each other.

    `pretrained`: the folder or name of a model; or `endpoint`: the address of a server. `longest_side`: of the frames
    that are kept, pixels; 0: as in the file. `embeddings`: of sentences, for chapters.
    """

    pretrained: str | None = None
    endpoint: str | None = None
    model: str | None = None
    by: str = "shots"
    max_s: float = 20.0
    fps: float = 1.0
    longest_side: int = 640
    prompt: str = "Describe what happens in this clip in one sentence."
    max_tokens: int = 64
    batch_size: int = 4
    dtype: str = "auto"
    device_map: str | None = None
    levels: Sequence[str] = LEVELS
    embeddings: str = "auto"
    similarity: float = 0.5
    chapter_prompt: str = "Sum up these descriptions of neighbouring shots in one sentence:"
    summary_prompt: str = "Sum up these descriptions of the parts of a video in one sentence:"
    remote: bool = False
    timeout_s: float = 120.0
    retries: int = 3
    key_env: str | None = None

    def __post_init__(self) -> None:
        check_settings(vars(self))

    @property
    def by_shots(self) -> bool:
        """Whether spans are cut at shots."""
        return self.by == "shots"

    def some(self, *names: str) -> dict:
        """Some of the settings, by name."""
        return {name: getattr(self, name) for name in names}
