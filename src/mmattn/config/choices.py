"""The names that a key takes, by the last parts of the key, where the code that takes them needs torch.

A test compares them with the names in that code.
"""

from __future__ import annotations

_NOISES = ("white", "pink", "babble")
_MODES = ("frozen", "finetune", "lora")

CHOICES: dict[str, tuple[str, ...]] = {
    "trainer.strategy": ("ddp", "fsdp"),
    "trainer.precision": ("32", "32-true", "bf16-mixed", "16-mixed"),
    "trainer.matmul": ("highest", "high", "medium"),
    "trainer.checkpoints": ("whole", "sharded"),
    "trainer.keep_mode": ("max", "min"),
    "trainer.profile": ("steps",),
    "visual.mode": _MODES,
    "audio.mode": _MODES,
    "captions.mode": _MODES,
    "visual.tokens": ("patch", "frame"),
    "audio.tokens": ("patch", "frame"),
    "train.captions.reads": ("prefix", "cross"),
    "train.captions.kind": ("gpt2", "llama", "qwen2", "qwen3"),
    "decoding.method": ("greedy", "beam", "sample"),
    "tokenizer.kind": ("bpe", "word"),
    "task.class_weights": ("none", "inverse", "effective"),
    "data.balance": ("none", "class", "sqrt"),
    "data.span": ("first", "center", "random"),
    "data.clip.spectrogram": ("log_mel", "kaldi"),
    "downmix": ("bs775", "mean"),
    "hdr": ("tonemap", "as_is"),
    "sound.noise_kind": _NOISES,
    "noise.kind": _NOISES,
    "views.crops": ("1", "3"),
    "split": ("train", "val", "test"),
    "sweep.evaluate": ("train", "val", "test"),
    "budget": ("params", "flops"),
    "train.search.direction": ("maximize", "minimize"),
    "sweep_ls.direction": ("auto", "maximize", "minimize"),
    "train.search.sampler": ("tpe", "random"),
    "predict.precision": ("32", "bf16", "16"),
    "data_features.dtype": ("float16", "bfloat16", "float32"),
    "compare.evaluate": ("ask", "missing", "none"),
}
