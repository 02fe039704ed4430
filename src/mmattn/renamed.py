"""Names that parameters had in checkpoints before version 0.2.0, and their present names.

Parameters are still created in the same order, so optimizer states that are stored by number load unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TypeVar

T = TypeVar("T")

_FUSION = r"(?<![^./])fusion\."
_BLOCK = rf"{_FUSION}(?:blocks|fine|coarse|encode|process|decode)\.\w+(?:\.(?:video|audio))?"
_ATTENTION = rf"{_FUSION}.*\.(?:attn|cross_attn|latent_attn)"
_CAPTIONS = r"(?<![^./])captions\."
_READER = rf"{_CAPTIONS}(?:layers\.\d+|summaries|gates\.\d+)"  # reads the clip in a caption decoder
_MECHANISM = rf"(?:{_FUSION}|{_CAPTIONS}(?!language\.)).*\.attention"

RENAMED: tuple[tuple[str, str], ...] = (
    (rf"({_FUSION})read\.", r"\1encode."),  # PerceiverFusion
    (rf"({_FUSION})think\.", r"\1process."),
    (rf"({_FUSION})give\.(\w+\.(?:weight|bias))$", r"\1out_proj.\2"),
    (rf"({_FUSION})give\.", r"\1decode."),
    (rf"({_FUSION})out\.", r"\1out_proj."),
    (rf"({_FUSION})kind\.", r"\1modality_embed."),
    (rf"({_FUSION}units\..*)\.attend\.", r"\1.cross_attn."),  # GatedFusion
    (rf"({_BLOCK})\.attend\.", r"\1.attn."),
    (rf"({_FUSION}layers\..*)\.compress\.", r"\1.latent_attn."),  # AdapterFusion
    (rf"({_FUSION}layers\..*)\.read\.", r"\1.cross_attn."),
    (rf"({_ATTENTION})\.query\.", r"\1.q_proj."),
    (rf"({_ATTENTION})\.keys?\.", r"\1.k_proj."),
    (rf"({_ATTENTION})\.values?\.", r"\1.v_proj."),
    (rf"({_ATTENTION})\.out\.", r"\1.out_proj."),
    (rf"({_BLOCK})\.norms\.0\.", r"\1.norm1."),
    (rf"({_BLOCK})\.norms\.1\.", r"\1.norm2."),
    (rf"({_BLOCK})\.norms\.(video|audio)\.", r"\1.norm1.\2."),
    (rf"({_BLOCK})\.norm\.", r"\1.norm1."),
    (rf"({_BLOCK})\.mlps\.(?:any|video_audio)\.", r"\1.mlp."),
    (rf"({_BLOCK})\.mlps\.(video|audio)\.0\.", r"\1.experts.\2.norm."),
    (rf"({_BLOCK})\.mlps\.(video|audio)\.1\.", r"\1.experts.\2.mlp.fc1."),
    (rf"({_BLOCK})\.mlps\.(video|audio)\.3\.", r"\1.experts.\2.mlp.fc2."),
    (rf"({_CAPTIONS})embed\.weight$", r"\1embed_tokens.weight"),
    (rf"({_CAPTIONS})place\.weight$", r"\1embed_positions.weight"),
    (rf"({_CAPTIONS}memory\.)kinds\.", r"\1modality_embed."),
    (rf"({_CAPTIONS}memory\.)when\.mix\.", r"\1time_embed.proj."),
    (rf"({_READER})\.norm_among\.", r"\1.norm1."),
    (rf"({_READER})\.ask_among\.", r"\1.self_attn.qkv."),
    (rf"({_READER})\.told_among\.", r"\1.self_attn.out_proj."),
    (rf"({_READER})\.look_at\.norm\.", r"\1.norm2."),
    (rf"({_READER})\.(?:look|attend)\.norm\.", r"\1.norm1."),
    (rf"({_READER})\.(?:look_at|look|attend)\.", r"\1.cross_attn."),
    (rf"({_READER}\.cross_attn)\.ask\.", r"\1.q_proj."),
    (rf"({_READER}\.cross_attn)\.offer\.", r"\1.kv_proj."),
    (rf"({_READER}\.cross_attn)\.told\.", r"\1.out_proj."),
    (rf"({_CAPTIONS}layers\.\d+)\.mlp\.0\.", r"\1.norm3."),
    (rf"({_CAPTIONS}summaries)\.questions$", r"\1.latents"),
    (rf"({_CAPTIONS}summaries)\.project\.", r"\1.proj."),
    (rf"({_BLOCK}|{_READER})\.mlp\.0\.", r"\1.norm2."),
    (rf"({_BLOCK}|{_READER})\.mlp\.1\.", r"\1.mlp.fc1."),
    (rf"({_BLOCK}|{_READER})\.mlp\.3\.", r"\1.mlp.fc2."),
    (rf"({_MECHANISM})\.read\.", r"\1.out_proj."),  # GRUAttention
    (rf"({_MECHANISM})\.key\.", r"\1.k_proj."),  # GRUAdditiveAttention
    (rf"({_MECHANISM})\.gate$", r"\1.decay_weight"),  # GatedLinearAttention
    (rf"({_MECHANISM})\.bias$", r"\1.decay_bias"),
    (rf"({_MECHANISM}\.score)\.log_scale$", r"\1.logit_scale"),  # Cosine
)
"""Pattern and replacement, each applied to what those before it made of a name. No present name matches a pattern."""

_FILM = (
    (rf"({_BLOCK})\.mlp\.0\.", r"\1.mlp.fc1."),
    (rf"({_BLOCK})\.mlp\.2\.", r"\1.mlp.fc2."),
)  # its blocks have their norms elsewhere, so that the numbers mean other layers; `modulation` is theirs alone


def present_names(names: Collection[str]) -> dict[str, str]:
    """Each of `names`, the parameters of one model, with its present name; a prefix such as `model.` stays.

    A name stays where its present name is among `names` too.
    """
    film = any(re.search(rf"{_BLOCK}\.modulation\.", name) for name in names)
    rules = _FILM + RENAMED if film else RENAMED
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]
    found = {}
    for name in names:
        new = name
        for pattern, replacement in compiled:
            new = pattern.sub(replacement, new)
        found[name] = name if new in names else new
    return found


def renamed(weights: Mapping[str, T]) -> dict[str, T]:
    """`weights` under the present names of the parameters."""
    return {new: weights[old] for old, new in present_names(weights.keys()).items()}
