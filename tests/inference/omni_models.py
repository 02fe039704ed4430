"""Tiny language models of transformers' own classes that see and hear, saved by the library with their processors."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

HIDDEN = 32
TURN = "{{ '<|im_start|>' + message['role'] + '\n' }}"
END = "{{ '<|im_end|>\n' }}"


def _template(video: str, audio: str) -> str:
    parts = f"{{% if part['type'] == 'video' %}}{video}{{% elif part['type'] == 'audio' %}}{audio}"
    parts += "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    whole = f"{{% for message in messages %}}{TURN}{{% for part in message['content'] %}}{parts}{{% endfor %}}{END}"
    return whole + "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"


def _tokenizer(marks: dict[str, str]) -> Any:
    """Bytes are tokens, and marks are one each, so that any answer is text."""
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>", *marks.values()]
    letters = [chr(i) for i in range(32, 127)]
    words = {
        word: i for i, word in enumerate([*special, *sorted(set(pre_tokenizers.ByteLevel.alphabet()) | set(letters))])
    }
    made = Tokenizer(models.BPE(vocab=words, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<|pad|>", eos_token="<|im_end|>", extra_special_tokens=marks
    )


def _ids(tokenizer: Any, marks: dict[str, str]) -> dict[str, int]:
    return {name: tokenizer.convert_tokens_to_ids(mark) for name, mark in marks.items()}


QWEN = {
    "image_token": "<|IMAGE|>",
    "audio_token": "<|AUDIO|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}


def _qwen2_5_omni() -> tuple[Any, Any]:
    tokenizer = _tokenizer(QWEN)
    ids = _ids(tokenizer, QWEN)
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": HIDDEN,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
        "pad_token_id": 0,
        "eos_token_id": 2,
    }
    audio = {"num_mel_bins": 32, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
    audio |= {"d_model": 16, "output_dim": HIDDEN, "n_window": 50, "max_source_positions": 1500}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": HIDDEN}
    vision |= {"patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1]}
    config = transformers.Qwen2_5OmniThinkerConfig(
        text_config=text,
        audio_config=audio,
        vision_config=vision,
        audio_token_index=ids["audio_token"],
        image_token_index=ids["image_token"],
        video_token_index=ids["video_token"],
        audio_start_token_id=ids["audio_bos_token"],
        audio_end_token_id=ids["audio_eos_token"],
        vision_start_token_id=ids["vision_bos_token"],
        vision_end_token_id=ids["vision_eos_token"],
    )
    small = {"size": {"shortest_edge": 28 * 28, "longest_edge": 56 * 56}}
    template = _template("<|vision_bos|><|VIDEO|><|vision_eos|>", "<|audio_bos|><|AUDIO|><|audio_eos|>")
    processor = transformers.Qwen2_5OmniProcessor(
        transformers.Qwen2VLImageProcessor(**small),
        transformers.Qwen2VLVideoProcessor(**small),
        transformers.WhisperFeatureExtractor(feature_size=32, hop_length=160),
        tokenizer,
        chat_template=template,
    )
    return transformers.Qwen2_5OmniThinkerForConditionalGeneration(config), processor


def _qwen3_omni() -> tuple[Any, Any]:
    tokenizer = _tokenizer(QWEN)
    ids = _ids(tokenizer, QWEN)
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": HIDDEN,
        "intermediate_size": 48,
        "moe_intermediate_size": 16,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]},
        "pad_token_id": 0,
        "eos_token_id": 2,
    }
    audio = {"num_mel_bins": 32, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
    audio |= {"d_model": 16, "output_dim": HIDDEN, "n_window": 50, "n_window_infer": 100, "downsample_hidden_size": 8}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": HIDDEN}
    vision |= {"patch_size": 16, "deepstack_visual_indexes": [0], "num_position_embeddings": 16}
    config = transformers.Qwen3OmniMoeThinkerConfig(
        text_config=text,
        audio_config=audio,
        vision_config=vision,
        audio_token_id=ids["audio_token"],
        image_token_id=ids["image_token"],
        video_token_id=ids["video_token"],
        audio_start_token_id=ids["audio_bos_token"],
        vision_start_token_id=ids["vision_bos_token"],
        vision_end_token_id=ids["vision_eos_token"],
    )
    small = {"size": {"shortest_edge": 32 * 32, "longest_edge": 64 * 64}, "patch_size": 16}
    template = _template("<|vision_bos|><|VIDEO|><|vision_eos|>", "<|audio_bos|><|AUDIO|><|audio_eos|>")
    processor = transformers.Qwen3OmniMoeProcessor(
        transformers.Qwen2VLImageProcessor(**small),
        transformers.Qwen2VLVideoProcessor(**small),
        transformers.WhisperFeatureExtractor(feature_size=32, hop_length=160),
        tokenizer,
        chat_template=template,
    )
    return transformers.Qwen3OmniMoeThinkerForConditionalGeneration(config), processor


GEMMA = {
    "image_token": "<|image|>",
    "audio_token": "<|audio|>",
    "boi_token": "<|image>",
    "eoi_token": "<image|>",
    "boa_token": "<|audio>",
    "eoa_token": "<audio|>",
    "video_token": "<|video|>",
}


def _gemma4() -> tuple[Any, Any]:
    tokenizer = _tokenizer(GEMMA)
    ids = _ids(tokenizer, GEMMA)
    text = {
        "vocab_size": len(tokenizer),
        "vocab_size_per_layer_input": len(tokenizer),
        "hidden_size": HIDDEN,
        "hidden_size_per_layer_input": 8,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 512,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "pad_token_id": 0,
        "eos_token_id": 2,
        "bos_token_id": 1,
    }
    audio = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "output_proj_dims": 32}
    audio |= {"subsampling_conv_channels": [128, 4]}
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"num_key_value_heads": 2, "head_dim": 16, "position_embedding_size": 64}
    config = transformers.Gemma4Config(
        text_config=text,
        audio_config=audio,
        vision_config=vision,
        image_token_id=ids["image_token"],
        video_token_id=ids["video_token"],
        audio_token_id=ids["audio_token"],
        boi_token_id=ids["boi_token"],
        eoi_token_id=ids["eoi_token"],
        boa_token_id=ids["boa_token"],
        eoa_token_index=ids["eoa_token"],
    )
    processor = transformers.Gemma4Processor(
        transformers.Gemma4AudioFeatureExtractor(),
        transformers.Gemma4ImageProcessor(max_soft_tokens=70),
        tokenizer,
        transformers.Gemma4VideoProcessor(),
        chat_template=_template("<|video|>", "<|audio|>"),
    )
    return transformers.Gemma4ForConditionalGeneration(config), processor


SMOL = {
    "image_token": "<image>",
    "fake_image_token": "<fake_token_around_image>",
    "global_image_token": "<global-img>",
    "end_of_utterance_token": "<end_of_utterance>",
    "video_token": "<video>",
}


def _smolvlm() -> tuple[Any, Any]:
    tokenizer = _tokenizer(SMOL)
    text = {
        "model_type": "llama",
        "vocab_size": len(tokenizer),
        "hidden_size": HIDDEN,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 64, "patch_size": 16}
    config = transformers.SmolVLMConfig(
        text_config=text, vision_config=vision, image_token_id=_ids(tokenizer, SMOL)["image_token"], scale_factor=2
    )
    sides = {"max_image_size": {"longest_edge": 64}, "size": {"longest_edge": 64}}
    processor = transformers.SmolVLMProcessor(
        transformers.SmolVLMImageProcessor(**sides),
        tokenizer,
        transformers.SmolVLMVideoProcessor(**sides, num_frames=8, fps=1),
        image_seq_len=4,
    )
    processor.chat_template = _template("<video>", "")
    return transformers.SmolVLMForConditionalGeneration(config), processor


CAPTIONERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "qwen2_5_omni_thinker": _qwen2_5_omni,
    "qwen3_omni_moe_thinker": _qwen3_omni,
    "gemma4": _gemma4,
    "smolvlm": _smolvlm,
}


def save_captioner(kind: str, folder: Path) -> Path:
    """With random weights, whose answers depend on what is seen and heard, and are made of letters."""
    model, processor = CAPTIONERS[kind]()
    torch.manual_seed(5)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    said = {processor.tokenizer.convert_tokens_to_ids(letter) for letter in string.ascii_letters}
    model.generation_config.suppress_tokens = sorted(set(range(len(processor.tokenizer))) - said)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
