"""The state of a language model during the search, with the key-value cache of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmattn.tasks.captioning.language_model.gate import Gate, GateInput, gate_inputs
from mmattn.tasks.captioning.search import State


class LanguageModelState(State):
    """The prefix is read once for each clip, before its row is repeated for the beams."""

    def __init__(
        self,
        language: Any,
        prefix: Float[Tensor, "B P E"] | None,
        gates: Sequence[Gate],
        inputs: Sequence[GateInput],
    ) -> None:
        """`prefix`: what is read before the first token. `inputs`: the clips for each of the `gates`."""
        from transformers import DynamicCache

        self.language, self.prefix, self.gates, self.inputs = language, prefix, gates, inputs
        self.cache = DynamicCache(config=language.config)
        self.beams, self.started = 1, False

    def expand(self, beams: int) -> None:
        self.beams = beams

    def step(self, tokens: Int[Tensor, " N"]) -> Float[Tensor, "N V"]:
        embed = self.language.get_input_embeddings()
        if self.started:
            return self._run(embed(tokens)[:, None], self.beams)
        self.started = True
        embedded = embed(tokens[:: self.beams])[:, None]
        if self.prefix is not None:
            embedded = torch.cat([self.prefix, embedded], dim=1)
        logits = self._run(embedded, 1)
        if self.beams > 1:
            self.cache.batch_repeat_interleave(self.beams)
        return logits.repeat_interleave(self.beams, dim=0)

    def _run(self, embedded: Tensor, beams: int) -> Tensor:
        for each in self.inputs:
            each.beams = beams
        with gate_inputs(self.gates, self.inputs):
            output = self.language(
                inputs_embeds=embedded.to(self.language.dtype),
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=1,
            )
        return output.logits[:, -1]

    def reorder(self, rows: Tensor) -> None:
        self.cache.reorder_cache(rows)  # type: ignore[arg-type]

    def keep(self, clips: Tensor) -> None:
        self.cache.batch_select_indices(clips.repeat_interleave(self.beams).nonzero()[:, 0])
        for each in self.inputs:
            each.memory = (each.memory[0][clips], each.memory[1][clips])
            each.geometry = each.geometry.of_clips(clips)
