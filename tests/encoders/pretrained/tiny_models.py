"""Tiny models of transformers' own classes, with the processors that prepare their input, and folders of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

LAYERS = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**LAYERS, "image_size": 32, "patch_size": 16}
TEXT = {**LAYERS, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
CONV = {"conv_dim": [8, 8], "conv_kernel": [40, 10], "conv_stride": [20, 16], "num_feat_extract_layers": 2}
SPEECH = {**LAYERS, **CONV, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
WHISPER = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_layers": 1}
WHISPER |= {"decoder_attention_heads": 2, "decoder_ffn_dim": 32, "vocab_size": 99, "pad_token_id": 0}
WHISPER |= {"num_mel_bins": 80, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3}
CLAP = {"patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [1, 2], "hidden_size": 16}
PE = {**LAYERS, "head_dim": 8}
PE_VISION = {"architecture": "test_vit", "num_classes": 16, "global_pool": "token", "do_pooling": True}
PE_VISION["model_args"] = {"img_size": 32}
DAC = {
    "model_type": "dac",
    "encoder_hidden_size": 4,
    "downsampling_ratios": [2, 8, 10, 12],
    "codebook_dim": 8,
    "hidden_size": 64,
}
PE_AUDIO = {**PE, "dac_config": DAC}


def saved(folder: Path, model: Any, processor: Any) -> Path:
    """A whole model's folder, as users download it, with random weights."""
    torch.manual_seed(3)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    for part in processor if isinstance(processor, tuple) else (processor,):
        part.save_pretrained(folder)
    return folder


def _image(kind: str, **settings: Any) -> Any:
    size = {"height": 32, "width": 32}
    return getattr(transformers, kind)(size=size, crop_size=size, **settings)


def clip_model() -> tuple[Any, Any]:
    config = transformers.CLIPConfig(text_config=TEXT, vision_config=VISION)
    return transformers.CLIPModel(config), _image("CLIPImageProcessor")


def _siglip() -> tuple[Any, Any]:
    config = transformers.SiglipConfig(text_config=TEXT, vision_config=VISION)
    return transformers.SiglipModel(config), _image("SiglipImageProcessor")


def _siglip2() -> tuple[Any, Any]:
    vision = {**LAYERS, "num_patches": 4, "patch_size": 16}
    model = transformers.Siglip2Model(transformers.Siglip2Config(text_config=TEXT, vision_config=vision))
    return model, transformers.Siglip2ImageProcessor(patch_size=16, max_num_patches=4)


def _dinov3() -> tuple[Any, Any]:
    model = transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**VISION, num_register_tokens=2))
    return model, _image("DINOv3ViTImageProcessor")


def _videomae() -> tuple[Any, Any]:
    config = transformers.VideoMAEConfig(**VISION, num_frames=4, decoder_num_hidden_layers=1)
    size = {"shortest_edge": 32}
    processor = transformers.VideoMAEImageProcessor(size=size, crop_size={"height": 32, "width": 32})
    return transformers.VideoMAEForPreTraining(config), processor


def _pe(**parts: Any) -> Any:
    text = {"model_type": "modernbert", **TEXT, "global_attn_every_n_layers": 1}
    return {"text_config": text, **parts}


def pe_pictures(**settings: Any) -> Any:
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    done = {"do_resize": True, "do_rescale": True, "do_normalize": True}
    return transformers.PeVideoVideoProcessor(size={"height": 32, "width": 32}, **half, **done, **settings)


def _pe_video() -> tuple[Any, Any]:
    config = transformers.PeVideoConfig(**_pe(video_config={**PE, "vision_config": PE_VISION}))
    return transformers.PeVideoModel(config), pe_pictures()


def _pe_audio() -> tuple[Any, Any]:
    config = transformers.PeAudioConfig(**_pe(audio_config=PE_AUDIO))
    return transformers.PeAudioModel(config), transformers.PeAudioFeatureExtractor()


def pe_audio_video() -> tuple[Any, Any]:
    both = {**PE, "audio_config": PE_AUDIO, "video_config": {**PE, "vision_config": PE_VISION}}
    model = transformers.PeAudioVideoModel(transformers.PeAudioVideoConfig(**_pe(audio_video_config=both)))
    return model, (pe_pictures(), transformers.PeAudioFeatureExtractor())


def _ast() -> tuple[Any, Any]:
    config = transformers.ASTConfig(**LAYERS, num_mel_bins=32, max_length=64, num_labels=3)
    processor = transformers.ASTFeatureExtractor(num_mel_bins=32, max_length=64, mean=-3.5, std=4.0)
    return transformers.ASTForAudioClassification(config), processor


def _whisper() -> tuple[Any, Any]:
    config = transformers.WhisperConfig(**WHISPER)
    return transformers.WhisperForConditionalGeneration(config), transformers.WhisperFeatureExtractor()


def _clap(fused: bool = False) -> tuple[Any, Any]:
    config = transformers.ClapConfig(text_config=TEXT, audio_config={**CLAP, "enable_fusion": fused})
    truncation = "fusion" if fused else "rand_trunc"
    processor = transformers.ClapFeatureExtractor(truncation=truncation, frequency_min=50, frequency_max=14000)
    return transformers.ClapModel(config), processor


def _speech(kind: str, norm: str, **settings: Any) -> tuple[Any, Any]:
    config = getattr(transformers, f"{kind}Config")(**SPEECH, feat_extract_norm=norm, **settings)
    return getattr(transformers, f"{kind}Model")(config), transformers.Wav2Vec2FeatureExtractor(do_normalize=True)


MODELS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "visual=clip": clip_model,
    "visual=siglip": _siglip,
    "visual=siglip2": _siglip2,
    "visual=dinov3": _dinov3,
    "visual=videomae": _videomae,
    "visual=pe_video": _pe_video,
    "audio=ast": _ast,
    "audio=whisper": _whisper,
    "audio=clap": _clap,
    "audio=clap fused": lambda: _clap(fused=True),
    "audio=wav2vec2": lambda: _speech("Wav2Vec2", "group"),
    "audio=wav2vec2 hubert": lambda: _speech("Hubert", "layer"),
    "audio=wav2vec2 hubert batch norm": lambda: _speech("Hubert", "group", conv_pos_batch_norm=True),
    "audio=wav2vec2 wavlm": lambda: _speech("WavLM", "layer"),
    "audio=pe_audio": _pe_audio,
}
