"""The state of a language model during the search, with the key-value cache of transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmattn.tasks.captioning.memory import ClipMemory
from mmattn.tasks.captioning.search import State

if TYPE_CHECKING:
    from mmattn.tasks.captioning.language_model.captioner import LanguageModelCaptioner


class LanguageModelState(State):
    """The prefix is read once for each clip, before its row is repeated for the beams."""

    def __init__(self, model: LanguageModelCaptioner, memory: ClipMemory) -> None:
        from transformers import DynamicCache

        self.model = model
        self.cache = DynamicCache(config=model.language.config)
        self.beams, self.started = 1, False
        self.prefix = model.summaries(memory) if model.reads == "prefix" else None
        self.gate_inputs = [gate.prepare(memory) for gate in model.gate_list] if model.reads == "cross" else []

    def expand(self, beams: int) -> None:
        self.beams = beams

    def step(self, tokens: Int[Tensor, " N"]) -> Float[Tensor, "N V"]:
        if self.started:
            return self._run(self.model.embed(tokens)[:, None], self.beams)
        self.started = True
        embedded = self.model.embed(tokens[:: self.beams])[:, None]
        if self.prefix is not None:
            embedded = torch.cat([self.prefix, embedded], dim=1)
        logits = self._run(embedded, 1)
        if self.beams > 1:
            self.cache.batch_repeat_interleave(self.beams)
        return logits.repeat_interleave(self.beams, dim=0)

    def _run(self, embedded: Tensor, beams: int) -> Tensor:
        if self.model.reads == "prefix":
            return self._logits(embedded)
        for each in self.gate_inputs:
            each.beams = beams
        with self.model.gate_inputs(self.gate_inputs):
            return self._logits(embedded)

    def _logits(self, embedded: Tensor) -> Tensor:
        embedded = embedded.to(self.model.language.dtype)
        output = self.model.language(
            inputs_embeds=embedded, past_key_values=self.cache, use_cache=True, logits_to_keep=1
        )
        return output.logits[:, -1]

    def reorder(self, rows: Tensor) -> None:
        self.cache.reorder_cache(rows)  # type: ignore[arg-type]

    def keep(self, clips: Tensor) -> None:
        self.cache.batch_select_indices(clips.repeat_interleave(self.beams).nonzero()[:, 0])
        for each in self.gate_inputs:
            each.memory = (each.memory[0][clips], each.memory[1][clips])
            each.geometry = each.geometry.of_clips(clips)
