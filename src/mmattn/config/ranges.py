"""The range of each number in conf/, by the last parts of its key; a test requires that all of them are here.

Ranges that depend on other keys are checked by the classes that take them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """The finite numbers from `low` to `high`; `above`: without `low` itself, `below`: without `high` itself."""

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False
    finite: bool = True

    def __contains__(self, value: float) -> bool:
        if math.isinf(value):
            return not self.finite and value == self.high
        return (value > self.low if self.above else value >= self.low) and (
            value < self.high if self.below else value <= self.high
        )

    def __str__(self) -> str:
        if self == ANY:
            return "a finite number"
        if math.isinf(self.high):
            return f"a number above {self.low:g}" if self.above else f"{self.low:g} or more"
        if not self.above and not self.below:
            return f"{self.low:g} to {self.high:g}"
        low, high = "more than" if self.above else "at least", "below" if self.below else "at most"
        return f"{low} {self.low:g} and {high} {self.high:g}"


def _all(range_: Range, names: str) -> dict[str, Range]:
    return dict.fromkeys(names.split(), range_)


ANY = Range(-math.inf)

RANGES: dict[str, Range] = {
    **_all(
        Range(1),
        "dim heads layers epochs batch_size log_every accumulate validate_every patch rows bands embed kernel "
        "stride widths width time_kernel visual.window size resize height short_side sample_rate mels steps "
        "grid tokens latents "
        "reduction mlp_ratio features landmarks positions rank tokenizer.size max_length prefix every "
        "beams decoding.max_length stages nodes min_nodes cpus minutes parallel trials search.warmup tasks "
        "windows shard_files clips_per_file clips_per_epoch clips limit each explain.tags every_s "
        "pattern.block bucket rounds stride dilation chosen_blocks cluster coarse views.spans beam_size max_tokens "
        "test_speakers decay_factor",
    ),
    **_all(
        Range(0),
        "seed blocks memory_gb "
        "devices shard threads workers decoders max_steps patience save_every validate_every_steps gradient_clip "
        "from_layer joint_layers past future global_tokens random iterations neighbours fine_s "
        "min_length no_repeat_ngram length_decay weight_decay from_epoch restarts actors engine.cpus gpus retries "
        "smooth_s samples cache_gb augment.picture.masks mask_frames shift_px augment.sound.masks easy_epochs gain_db "
        "time_mask_s time_shift_s mel_mask gamma gamma_negative gamma_positive multitask.tags multitask.captions "
        "prices.video prices.audio modality_balance.noise disk_gb shared_gb short_s offset_s data_check.rows "
        "logger.clips warn_s longest_side",
    ),
    **_all(Range(0, finite=False), "past_s future_s"),
    **_all(
        Range(0, above=True),
        "lr encoder_lr pretrained_lr fps seconds hop_s window_s deadline_s timeout_s join_s shortest_s longest_s "
        "step_s span_step_s max_s least_s temperature weight lora.alpha modality_balance.alpha mixup_alpha "
        "pretrain.contrast aspect shard_mb peak_tflops",
    ),
    **_all(
        Range(0, 1),
        "dropout warmup threshold min_score black still max_bad_fraction vad_threshold vad_peak least_probability "
        "mixup augment.sound.noise flip grey erase brightness contrast saturation region tag_loss.alpha",
    ),
    **_all(Range(0, 1, above=True), "label_fraction top_p layer_decay pretrained_decay self_critical.weight"),
    **_all(Range(0, 1, below=True), "label_smoothing effective_beta margin decay start"),
    **_all(Range(0, 1, above=True, below=True), "video_ratio audio_ratio"),
    **_all(Range(0, 0.5), "modality_dropout speed hue ratio"),
    **_all(Range(-1, 1), "similarity least_similarity"),
    **_all(ANY, "snr_db silent_db floor_db length_penalty"),
    "burn_in_height": Range(64, 2160),
    "explain.masks": Range(2),
    "explain.height": Range(32),
    "augment.picture.crop": Range(0, 0.99),
    "crop_aspect": Range(0, 3),
    "val_fraction": Range(0, 0.9),
    "quality": Range(1, 100),
    "min_confidence": Range(0, 100),
    "normaliser.alpha": Range(1, 2, above=True),
    "state": Range(2),
    "crops": Range(1, 3),
}
