"""The page of `mmattn explain`: the video, what tags depend on over time, moments, and how faithful the heat is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from markupsafe import Markup

from mmattn.reports import html, text
from mmattn.reports.explain.explained import Explained, mean_mass, split_of
from mmattn.reports.explain.heat import hottest
from mmattn.reports.explain.video import Still
from mmattn.reports.page.charts.bars import mass_bar, split_bars
from mmattn.reports.page.charts.lines import lines
from mmattn.types import MODALITIES

_EVEN = 0.05  # of a score: shares that differ by less are called about equal
_LEAN = 0.1  # log-ratio: attention closer to its prior leans to neither
_SENSE = {"video": "picture", "audio": "sound", "both": "both"}


def render(found: Explained, stills: Sequence[Still], video: str, attention: bool = False) -> bytes:
    """The page as UTF-8 HTML. `video`: the name of the file beside it, whose heat is causal or that of attention."""
    tags = [{"tag": tag, **split_of(found, i)} for i, tag in enumerate(found.tags)]
    parts = [tag[part] for tag in tags for part in ("video", "audio", "synergy")]
    mass = mean_mass(found)
    pictures = [{"time": still.time, "frame": html.data_uri("image/jpeg", still.frame)} for still in stills]
    return html.render(
        "explain.html.j2",
        name=found.path.name,
        video=video,
        burned_in_attention=attention,
        tags=tags,
        low=min([-0.1, *parts]),
        high=max([0.2, *parts]),
        split_bars=split_bars,
        mass=mass,
        mass_bar=mass_bar,
        verdict=verdict(tags[0], mass, found.has("video") and found.has("audio")),
        causal=_causal(found),
        attention=_attention(found),
        looked_known=any(s.looked is not None for w in found.windows for s in w.streams.values()),
        stills=pictures,
        poster=pictures[len(pictures) // 2]["frame"] if pictures else "",
        full=hottest(found, attention),
        moment=_most(found),
        faithful=_faithful(found),
        curves=_curves(found),
        issues=found.issues,
        missing=[_SENSE[name] for name in MODALITIES if not found.has(name)],
        **html.inline(("report.css", "explain.css")),
    )


def verdict(tag: dict[str, Any], mass: dict[str, float] | None, both: bool) -> str:
    """What the score depends on and what attention leans to, each in a sentence of its own."""
    if not both:
        return "The file has only one of picture and sound, so there is nothing to compare."
    parts = f"(picture {text.signed(tag['video'])}, sound {text.signed(tag['audio'])})"
    depends = "" if abs(tag["video"] - tag["audio"]) < _EVEN else "picture" if tag["video"] > tag["audio"] else "sound"
    how = f"depends more on the {depends}" if depends else "depends on picture and sound about equally"
    cause = f"The score of {tag['tag']} {how} {parts}."
    if mass is None:
        return f"{cause} No attention in this fusion weighs sound against picture."
    ratio = math.log(max(mass["audio"], 1e-6) / max(mass["prior"], 1e-6))
    looks = "" if abs(ratio) < _LEAN else "sound" if ratio > 0 else "picture"
    share = f"({text.percent(mass['audio'])} of it on sound; uniform attention: {text.percent(mass['prior'])})"
    if not looks:
        return f"{cause} Attention leans to neither {share}."
    too = "" if not depends else " too" if looks == depends else " instead"
    return f"{cause} Attention leans to the {looks}{too} {share}."


def _most(found: Explained) -> float:
    """The most that a moment of one stream counts for the first tag: the sum over its places."""
    moments = [steps.causal[0].sum(dim=-1).abs().max() for window in found.windows for steps in window.streams.values()]
    return max(map(float, moments), default=0.0)


def _causal(found: Explained) -> Markup:
    """What the score of the first tag depends on, moment by moment."""
    series = []
    for i, name in enumerate(MODALITIES):
        points = []
        for window in found.windows:
            if (steps := window.streams.get(name)) is not None:
                values = steps.causal[0].sum(dim=-1).clamp(min=0).tolist()
                points += [(t, v) for t, v in zip(steps.times.tolist(), values, strict=True) if t >= window.shown]
        series.append((i, _SENSE[name], points))
    top = max((value for *_, points in series for _, value in points), default=0.0)
    return lines(series, "s", "of the score", (0.0, top or 1.0))


def _attention(found: Explained) -> Markup | None:
    """Attention on audio of both streams' tokens over time; None without such attention."""
    mass = mean_mass(found)
    if mass is None:
        return None
    series = []
    for i, name in enumerate(MODALITIES):
        points = []
        for window in (window for window in found.windows if len(window.streams) == 2):
            steps = window.streams[name]
            values = [] if steps.audio_mass is None else steps.audio_mass.tolist()
            points += [(t, v) for t, v in zip(steps.times.tolist(), values, strict=False) if t >= window.shown]
        series.append((i, f"{_SENSE[name]} looks at sound", points))
    return lines(series, "s", "share on sound", (0.0, 1.0), mass["prior"])


def _faithful(found: Explained) -> list[dict[str, Any]]:
    """Means over windows, by the tokens that were moved."""
    rows = []
    for moved in dict.fromkeys(name for window in found.windows for name in window.faithful):
        each = [window.faithful[moved] for window in found.windows if moved in window.faithful]
        rows.append({
            "moved": _SENSE[moved],
            "insertion": fmean(f.insertion.area for f in each),
            "insertion_random": fmean(f.insertion.random_area for f in each),
            "deletion": fmean(f.deletion.area for f in each),
            "deletion_random": fmean(f.deletion.random_area for f in each),
            "spread": fmean(f.insertion.random_spread for f in each),
            "gain": fmean(f.gain for f in each),
        })  # fmt: skip
    return rows


def _curves(found: Explained) -> list[tuple[str, Markup]]:
    """Deletion and insertion in the first window, beside random orders."""
    faithful = found.windows[0].faithful
    moved = faithful.get("both") or next(iter(faithful.values()), None)
    charts = []
    for title, curve in () if moved is None else (("deletion", moved.deletion), ("insertion", moved.insertion)):
        series = [
            (0, "by heat", list(zip(curve.shares, curve.scores, strict=True))),
            (1, "at random", list(zip(curve.shares, curve.random_scores, strict=True))),
        ]
        charts.append((title, lines(series, "share of the tokens", "score", (0.0, 1.0))))
    return charts
