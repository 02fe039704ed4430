"""Tags by their meaning: a tag's weights are computed from the embedding of a text that describes it.

No weight belongs to a single tag, so the model can score tags that were not in training, given embeddings by the same
text encoder (after Frome et al. 2013; the query comes from the text like Query2Label's class embeddings).

Shape legend: B clips, L tokens, D channels, K tags, E numbers of an embedding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.data.manifest.labels import TagVocabulary
from mmattn.errors import UsageError
from mmattn.files import expanded
from mmattn.tasks.tagging.class_weights import ClassWeights
from mmattn.tasks.tagging.embeddings import read_embeddings
from mmattn.tasks.tagging.losses import TagLoss
from mmattn.tasks.tagging.tag_task import TagTask
from mmattn.types import MODALITIES, Fused, Modality, Tokens


class PromptedTagging(TagTask):
    """Each tag's query attends to each stream; the result and the channels' maxima are compared with the tag.

    `pretrained`: a file of embeddings by tag, see read_embeddings; None: those of the checkpoint, of length `text_dim`.
    For the settings see TagTask.
    """

    embeddings: Tensor

    def __init__(
        self,
        dim: int,
        vocabulary: TagVocabulary,
        pretrained: str | None = None,
        text_dim: int | None = None,
        label_smoothing: float = 0.0,
        loss: TagLoss | None = None,
        class_weights: ClassWeights = "none",
        effective_beta: float = 0.999,
        calibrate: str | float = "none",
    ) -> None:
        super().__init__(vocabulary, label_smoothing, loss, class_weights, effective_beta, calibrate)
        if pretrained is not None:
            _, embeddings = read_embeddings(expanded(pretrained), vocabulary.names)
        elif text_dim is not None:
            embeddings = torch.zeros(len(vocabulary.names), text_dim)
        else:
            raise UsageError(
                "task=prompted needs task.pretrained=FILE: a .safetensors or .npz file with a text embedding under the "
                "name of each tag; make one with: mmattn data prompts"
            )
        size = embeddings.shape[1]
        self.resolved = {"text_dim": size}
        self.register_buffer("embeddings", embeddings)
        self.query = nn.ModuleDict({name: nn.Linear(size, dim, bias=False) for name in MODALITIES})
        self.meaning = nn.ModuleDict({name: nn.Linear(size, 2 * dim, bias=False) for name in MODALITIES})
        self.norm = nn.ModuleDict({name: nn.LayerNorm(2 * dim) for name in MODALITIES})
        self.missing = nn.ParameterDict({name: torch.randn(2 * dim) * 0.02 for name in MODALITIES})
        self.bias = nn.Linear(size, 1)

    def forward(self, fused: Fused) -> Float[Tensor, "B K"]:
        bias = self.bias(self.embeddings * math.sqrt(self.embeddings.shape[1]))[:, 0]
        return self._logits("video", fused.video) + self._logits("audio", fused.audio) + bias

    def reads(self, fused: Fused) -> dict[Modality, Float[Tensor, "B K L"]]:
        return {"video": self._weights("video", fused.video), "audio": self._weights("audio", fused.audio)}

    def _weights(self, name: Modality, tokens: Tokens) -> Float[Tensor, "B K L"]:
        """The attention of each tag on each token; all 0 for a clip without the modality."""
        query = self.query[name](self.embeddings * math.sqrt(self.embeddings.shape[1]))  # (K, D)
        scores = (query @ tokens.values.mT / math.sqrt(tokens.values.shape[2])).float()  # (B, K, L)
        return torch.softmax(scores.masked_fill(~tokens.keep[:, None], -torch.inf), dim=2).nan_to_num(0.0)

    def _logits(self, name: Modality, tokens: Tokens) -> Float[Tensor, "B K"]:
        values, present = tokens.values, tokens.present[:, None, None]
        read = self._weights(name, tokens).to(values.dtype) @ values  # (B, K, D)
        highest = torch.where(tokens.keep[..., None], values, torch.finfo(values.dtype).min).amax(dim=1)
        both = torch.cat([read, highest[:, None].expand_as(read)], dim=2)
        found = self.norm[name](torch.where(present, both, 0.0))
        found = torch.where(present, found, self.missing[name].to(found.dtype))
        return (found * self.meaning[name](self.embeddings)).sum(dim=2)

    def with_tags(self, names: Sequence[str], embeddings: Float[Tensor, "K E"]) -> PromptedTagging:
        """The same head for other tags, all of them free. Raises UsageError for embeddings of another length."""
        size = self.embeddings.shape[1]
        if embeddings.shape[1] != size:
            raise UsageError(
                f"the embeddings have {embeddings.shape[1]} dimensions, but the model was trained with {size}; "
                "compute them with the text encoder of the training"
            )
        dim = self.query["video"].out_features
        other = PromptedTagging(int(dim), TagVocabulary(tuple(names)), text_dim=size)  # type: ignore[arg-type]
        other.load_state_dict({**self.state_dict(), "embeddings": embeddings})
        return other.to(self.embeddings.device).train(self.training)
