"""From sentences about spans to chapters and a summary of the file, both written by the language model.

Neighbouring spans whose sentences are alike make a chapter: by the cosine of their embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

_LINES = 50  # that a model is given at once


@dataclass(frozen=True)
class Told:
    """What is said of [start, end) s."""

    start: float
    end: float
    text: str


def chapters(told: Sequence[Told], rows: Float[Tensor, "N E"], similarity: float) -> list[list[Told]]:
    """Each sentence joins the chapter before it if its embedding has that cosine with the chapter's mean, or more."""
    groups: list[list[int]] = []
    units = normalize(rows, dim=1)
    for i in range(len(told)):
        if groups and float(units[i] @ normalize(units[groups[-1]].mean(dim=0), dim=0)) >= similarity:
            groups[-1].append(i)
        else:
            groups.append([i])
    return [[told[i] for i in group] for group in groups]


def one_sentence(texts: Sequence[str], prompt: str, answer: Callable[[str], str]) -> str:
    """What the model makes of several; of one alone, that one. Many are summarised in parts first."""
    while len(texts) > _LINES:
        texts = [one_sentence(texts[i : i + _LINES], prompt, answer) for i in range(0, len(texts), _LINES)]
    if len(texts) == 1:
        return texts[0]
    return answer(prompt + "\n" + "\n".join(f"- {text}" for text in texts))


def whole(group: Sequence[Told], text: str) -> Told:
    return Told(group[0].start, group[-1].end, text)
