"""The sections and panels of a dashboard, as plain data that needs no wandb."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

STEP = "trainer/global_step"  # the axis that training logs
_TABLES = ("val/families", "val/tags", "val/heads")
_MOST = 24  # lines of a panel


@dataclass(frozen=True)
class Panel:
    """`lines`: `y` over steps; `bars`: last values of `y` by run; `points`: last values of y[0] against x; `table`."""

    kind: Literal["lines", "bars", "points", "table"]
    title: str
    y: tuple[str, ...]
    x: str = STEP


@dataclass(frozen=True)
class Section:
    """Panels under one heading."""

    name: str
    about: str
    panels: tuple[Panel, ...]


def views(names: Iterable[str]) -> list[Section]:
    """The sections for runs that log `names`, without panels that would be empty."""
    known = list(names)
    sections = (_scores(known), _causal(known), _descriptive(known), _training(known))
    kept = [(section, tuple(panel for panel in section.panels if panel.y)) for section in sections]
    return [Section(section.name, section.about, panels) for section, panels in kept if panels]


def _scores(known: list[str]) -> Section:
    captions = tuple(name for name in _under(known, "val/captions") if name.count("/") == 2)
    return Section("Scores", "How well runs tag and caption.", (
        Panel("lines", "mAP by family", _under(known, "val/mAP")),
        Panel("bars", "mAP", _only(known, "val/mAP")),
        Panel("lines", "losses", _only(known, "train/loss", "val/loss")),
        Panel("lines", "accuracy", (*_only(known, "val/mean_accuracy"), *_under(known, "val/accuracy"))),
        Panel("lines", "captions", captions),
        Panel("table", "families, tags and heads", _TABLES if "val/shapley/audio" in known else ()),
    ))  # fmt: skip


def _causal(known: list[str]) -> Section:
    parts = ("video", "audio", "synergy")
    split = _only(known, *(f"val/shapley/{part}" for part in parts))
    share = "val/shapley/audio"
    return Section("Sound or picture, causal", "What scores depend on: trust these about what a result is based on.", (
        Panel("lines", "Shapley split", split),
        Panel("bars", "Shapley split, last", split),
        *(Panel("lines", f"{part} by family and tag", _under(known, f"val/shapley/{part}")[1:]) for part in parts),
        Panel("points", "mAP against the sound's share", _only(known, "val/mAP") if share in known else (), share),
        Panel("lines", "permutation scores", _under(known, "val/permutation")),
        Panel("lines", "one modality right, both wrong", _under(known, "val/confusion")),
    ))  # fmt: skip


def _descriptive(known: list[str]) -> Section:
    return Section("Sound or picture, descriptive", "What models look at, which may differ from what they need.", (
        Panel("lines", "attention on sound over its prior, log-ratio", _under(known, "val/attention_log_ratio")),
        Panel("lines", "gates on sound over their prior, log-ratio", _under(known, "val/gate_log_ratio")),
        Panel("lines", "lag of attention, s", _under(known, "val/attention_lag_s")),
    ))  # fmt: skip


def _training(known: list[str]) -> Section:
    return Section("Sound or picture, training", "What training changed.", (
        Panel("lines", "share of the encoders' gradient", _under(known, "train/gradient_share")),
        Panel("lines", "gradient norms", _under(known, "train/gradient_norm")),
        Panel("lines", "losses of one modality alone", _only(known, "train/loss_video", "train/loss_audio")),
    ))  # fmt: skip


def _under(known: list[str], prefix: str) -> tuple[str, ...]:
    return tuple(name for name in known if name == prefix or name.startswith(f"{prefix}/"))[:_MOST]


def _only(known: list[str], *wanted: str) -> tuple[str, ...]:
    return tuple(name for name in wanted if name in known)
