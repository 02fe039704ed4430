"""Joins the captions of spans into chapters and a summary of the file, which the language model writes.

Neighbouring spans with similar captions, by the cosine of their embeddings, form a chapter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

_MAX_LINES = 50  # that a model gets at once


@dataclass(frozen=True)
class TimedText:
    """A caption of [start, end) s."""

    start: float
    end: float
    text: str


def chapters(captions: Sequence[TimedText], rows: Float[Tensor, "N E"], similarity: float) -> list[list[TimedText]]:
    """Group captions: each joins the chapter before it if its cosine with the chapter's mean is at least `similarity`.

    `rows`: the embeddings of the captions.
    """
    groups: list[list[int]] = []
    units = normalize(rows, dim=1)
    for i in range(len(captions)):
        if groups and float(units[i] @ normalize(units[groups[-1]].mean(dim=0), dim=0)) >= similarity:
            groups[-1].append(i)
        else:
            groups.append([i])
    return [[captions[i] for i in group] for group in groups]


def one_sentence(texts: Sequence[str], prompt: str, answer: Callable[[str], str]) -> str:
    """The model's summary of several texts; a single text is returned as it is. Many are summarised in parts first."""
    while len(texts) > _MAX_LINES:
        parts = [texts[i : i + _MAX_LINES] for i in range(0, len(texts), _MAX_LINES)]
        texts = [one_sentence(part, prompt, answer) for part in parts]
    if len(texts) == 1:
        return texts[0]
    return answer(prompt + "\n" + "\n".join(f"- {text}" for text in texts))


def joined(group: Sequence[TimedText], text: str) -> TimedText:
    """`text` as the caption of the whole time of `group`."""
    return TimedText(group[0].start, group[-1].end, text)
