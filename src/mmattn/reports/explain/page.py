"""The page of `mmattn explain`: the video, what tags owe to what over time, moments, and how faithful the heat is."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Any

import torch
from markupsafe import Markup

from mmattn.reports import html, text
from mmattn.reports.explain.explained import Explained, mean_mass, split_of
from mmattn.reports.explain.video import Still, hottest
from mmattn.reports.page.charts import bars as charts
from mmattn.types import MODALITIES

_EVEN = 0.05  # of a score: shares that differ by less are called alike
_LEAN = 0.1  # log-ratio: attention that is nearer to its prior leans nowhere
_SENSE = {"video": "picture", "audio": "sound", "both": "both"}


def render(found: Explained, stills: Sequence[Still], video: str, attention: bool = False) -> bytes:
    """`video`: the name of the file that lies beside the page. `attention`: its heat is what is looked at."""
    tags = [{"tag": tag, **split_of(found, i)} for i, tag in enumerate(found.tags)]
    splits = [tag[part] for tag in tags for part in ("video", "audio", "synergy")]
    mass = mean_mass(found)
    page = (
        html.environment()
        .get_template("explain.html.j2")
        .render(
            style=Markup(html.source("report.css")),  # ours
            name=found.path.name,
            video=video,
            burned_in_attention=attention,
            tags=tags,
            low=min([-0.1, *splits]),
            high=max([0.2, *splits]),
            split_bars=charts.split_bars,
            mass=mass,
            mass_bar=charts.mass_bar,
            verdict=verdict(tags[0], mass, found.has("video") and found.has("audio")),
            causal=_causal(found),
            attention=_attention(found),
            looked_known=any(s.looked is not None for w in found.windows for s in w.streams.values()),
            stills=[{"time": s.time, "frame": _uri(s.frame)} for s in stills],
            poster=_uri(stills[len(stills) // 2].frame) if stills else "",
            full=hottest(found, attention),
            moment=_most(found),
            faithful=_faithful(found),
            curves=_curves(found),
            issues=found.issues,
            missing=[_SENSE[name] for name in MODALITIES if not found.has(name)],
            end=found.windows[-1].end,
        )
    )
    return page.encode("utf-8")


def verdict(tag: dict[str, Any], mass: dict[str, float] | None, both: bool) -> str:
    """What the score depends on and what is looked at, each in its own sentence, and whether that is the same sense."""
    if not both:
        return "The file has one sense only: there is nothing to weigh against it."
    parts = f"(picture {text.signed(tag['video'])}, sound {text.signed(tag['audio'])})"
    depends = "" if abs(tag["video"] - tag["audio"]) < _EVEN else "picture" if tag["video"] > tag["audio"] else "sound"
    alike = "depends on picture and sound about alike"
    cause = f"The score of {tag['tag']} {f'depends more on the {depends}' if depends else alike} {parts}."
    if mass is None:
        return f"{cause} No attention in this fusion weighs sound against picture."
    ratio = math.log(max(mass["audio"], 1e-6) / max(mass["prior"], 1e-6))
    looks = "" if abs(ratio) < _LEAN else "sound" if ratio > 0 else "picture"
    share = f"({text.percent(mass['audio'])} of it on sound; {text.percent(mass['prior'])} if all were looked at alike)"
    if not looks:
        return f"{cause} Attention leans to neither {share}."
    if not depends:
        return f"{cause} Attention leans to the {looks} {share}."
    return f"{cause} Attention leans to the {looks}{' too' if looks == depends else ' instead'} {share}."


def _most(found: Explained) -> float:
    """The most that a moment of one stream counts for the first tag: the sum over its places."""
    moments = [steps.causal[0].sum(dim=-1).abs().max() for window in found.windows for steps in window.streams.values()]
    return max(map(float, moments), default=0.0)


def _uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def _causal(found: Explained) -> Any:
    """What the score of the first tag depends on, moment by moment."""
    series = []
    for i, name in enumerate(MODALITIES):
        points = [
            (time, max(0.0, value))
            for window in found.windows
            if name in window.streams
            for time, value in zip(
                window.streams[name].times.tolist(), window.streams[name].causal[0].sum(dim=-1).tolist(), strict=True
            )
            if time >= window.shown
        ]
        series.append((i, _SENSE[name], points))
    return charts.curves(series, across="s")


def _attention(found: Explained) -> Any:
    series = []
    for i, name in enumerate(MODALITIES):
        points = [
            (time, value)
            for window in found.windows
            if len(window.streams) == 2 and (mass := window.streams[name].sound_mass) is not None
            for time, value in zip(window.streams[name].times.tolist(), mass.tolist(), strict=True)
            if time >= window.shown
        ]
        series.append((i, f"{_SENSE[name]} looks at sound", points))
    if not any(points for _, _, points in series):
        return None
    mass = mean_mass(found)
    return charts.curves(series, 1.0, None if mass is None else mass["prior"], across="s")


def _faithful(found: Explained) -> list[dict[str, Any]]:
    """Means over windows, by what was moved."""
    rows = []
    for moved in dict.fromkeys(name for window in found.windows for name in window.faithful):
        all_ = [window.faithful[moved] for window in found.windows if moved in window.faithful]

        def mean(values: list[float]) -> float:
            return float(torch.tensor(values).mean())

        rows.append(
            {
                "moved": _SENSE[moved],
                "insertion": mean([f.insertion.area for f in all_]),
                "insertion_random": mean([f.insertion.random_area for f in all_]),
                "deletion": mean([f.deletion.area for f in all_]),
                "deletion_random": mean([f.deletion.random_area for f in all_]),
                "spread": mean([f.insertion.random_spread for f in all_]),
                "gain": mean([f.gain for f in all_]),
            }
        )
    return rows


def _curves(found: Explained) -> list[tuple[str, Any]]:
    """Of the first window: deletion and insertion, beside random orders."""
    window = found.windows[0]
    moved = "both" if "both" in window.faithful else next(iter(window.faithful), None)
    if moved is None:
        return []
    charted = []
    for title, curve in (
        ("deletion", window.faithful[moved].deletion),
        ("insertion", window.faithful[moved].insertion),
    ):
        series = [
            (0, "by heat", list(zip(curve.shares, curve.scores, strict=True))),
            (1, "at random", list(zip(curve.shares, curve.random_scores, strict=True))),
        ]
        charted.append((title, charts.curves(series, 1.0, across="share of the tokens")))
    return charted
