"""Tiny models of transformers' own classes that compare sentences with media, saved by the library with processors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = "a video of the sound dog barks cat red roof rain something on".split()
LAYERS = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {**LAYERS, "vocab_size": 24, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "projection_dim": 12}
TEXT["max_position_embeddings"] = 16
VISION = {**LAYERS, "image_size": 32, "patch_size": 16}
HTSAT = {"patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [1, 2], "hidden_size": 16}
PE = {**LAYERS, "head_dim": 8}
PE_VISION = {"architecture": "test_vit", "num_classes": 16, "global_pool": "token", "do_pooling": True}
PE_VISION["model_args"] = {"img_size": 32}
DAC = {"model_type": "dac", "encoder_hidden_size": 4, "downsampling_ratios": [2, 8, 10, 12], "codebook_dim": 8}
DAC["hidden_size"] = 64
SIDES = {"height": 32, "width": 32}


def tokenizer() -> Any:
    """Fills texts up with their end, which is not the padding of the models' configs."""
    marks = ["<pad>", "<s>", "</s>", "<unk>"]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*marks, *WORDS])}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, **names)


def _clip() -> tuple[Any, list[Any]]:
    config = transformers.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=12)
    return transformers.CLIPModel(config), [
        transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=SIDES)
    ]


def _siglip() -> tuple[Any, list[Any]]:
    config = transformers.SiglipConfig(text_config={**TEXT, "projection_size": 16}, vision_config=VISION)
    return transformers.SiglipModel(config), [transformers.SiglipImageProcessor(size=SIDES)]


def _siglip2() -> tuple[Any, list[Any]]:
    text, vision = {**TEXT, "projection_size": 16}, {**LAYERS, "num_patches": 4, "patch_size": 16}
    config = transformers.Siglip2Config(text_config=text, vision_config=vision)
    return transformers.Siglip2Model(config), [transformers.Siglip2ImageProcessor(patch_size=16, max_num_patches=4)]


def _clap() -> tuple[Any, list[Any]]:
    text = {**TEXT, "max_position_embeddings": 20}
    model = transformers.ClapModel(transformers.ClapConfig(text_config=text, audio_config=HTSAT, projection_dim=12))
    return model, [transformers.ClapFeatureExtractor(truncation="rand_trunc", frequency_min=50, frequency_max=14000)]


def _pe_av() -> tuple[Any, list[Any]]:
    text = {"model_type": "modernbert", **TEXT, "global_attn_every_n_layers": 1}
    both = {**PE, "audio_config": {**PE, "dac_config": DAC}, "video_config": {**PE, "vision_config": PE_VISION}}
    model = transformers.PeAudioVideoModel(transformers.PeAudioVideoConfig(text_config=text, audio_video_config=both))
    half = {
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
    }
    pictures = transformers.PeVideoVideoProcessor(size=SIDES, **half, num_frames=4)
    return model, [pictures, transformers.PeAudioFeatureExtractor()]


ZERO_SHOT: dict[str, Callable[[], tuple[Any, list[Any]]]] = {
    "clip": _clip,
    "siglip": _siglip,
    "siglip2": _siglip2,
    "clap": _clap,
    "pe_audio_video": _pe_av,
}


def save_zero_shot(kind: str, folder: Path) -> Path:
    """With random weights, whose scores differ between tags and moments."""
    model, parts = ZERO_SHOT[kind]()
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if "logit" in name:
            torch.nn.init.constant_(parameter, (0.5 if kind == "clap" else 3.0) if "scale" in name else -0.3)
        elif not (name.endswith("norm.weight") or "codebook" in name or parameter.ndim < 2):
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder)
    for part in (*parts, tokenizer()):
        part.save_pretrained(folder)
    return folder
