"""`mmattn dashboard`: the views of a comparison in wandb, as a workspace and a report over a project's runs.

What is shown is decided here as plain data, so that it can be looked at before anything is sent, and without wandb.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from mmattn.config.compose import Config
from mmattn.errors import MmattnError, UsageError, first_line
from mmattn.files import write_atomically
from mmattn.reports.collect.runs import METRICS_FILE
from mmattn.reports.collect.select import select_runs
from mmattn.text import counted
from mmattn.training.directory.record import run_id

STEP = "trainer/global_step"  # the axis that training logs
_TABLES = ("val/families", "val/tags", "val/heads")
_MOST = 24  # lines of a panel


@dataclass(frozen=True)
class Panel:
    """`lines`: `y` over steps; `bars`: the last of `y` of each run; `points`: the last of y[0] against x; `table`."""

    kind: Literal["lines", "bars", "points", "table"]
    title: str
    y: tuple[str, ...]
    x: str = STEP


@dataclass(frozen=True)
class Section:
    name: str
    about: str
    panels: tuple[Panel, ...]


def dashboard(config: Config) -> str:
    """Writes what is shown, sends it when asked to, and returns a line for a person. Raises UsageError, MmattnError."""
    runs = select_runs(config["runs"], config["sweep"])
    sections = views(metric_names(runs))
    if not sections:
        raise UsageError(
            f"none of the {counted(len(runs), 'run')} has logged a metric yet (no {METRICS_FILE}): nothing to show"
        )
    out = Path(str(config["out"]))
    sent = bool(config["online"])
    which = run_filter(runs)
    links = _send(config, sections, which) if sent else []
    record = {
        "project": config["project"],
        "entity": config["entity"],
        "name": config["name"],
        "sent": links,
        "runs": [str(run) for run in runs],
        "filter": asdict(which),
        "sections": [asdict(section) for section in sections],
    }
    write_atomically(out, json.dumps(record, indent=1).encode())
    panels = sum(len(section.panels) for section in sections)
    what = (
        f"a workspace and a report of {len(sections)} sections with {panels} panels for {counted(len(runs), 'run')} of "
        f"project {config['project']}"
    )
    if sent:
        return f"{what} -> {' '.join(links)}"
    return f"{what}; nothing was sent (online=true does) -> {out}"


@dataclass(frozen=True)
class RunFilter:
    """Which of a project's runs are shown: those whose `key` ("ID" or "Name", as wandb calls them) is of `values`."""

    key: Literal["ID", "Name"]
    values: tuple[str, ...]

    def expressions(self, metric: Any) -> list[Any]:
        """As wandb's own filter. `metric`: its class Metric."""
        return [metric(self.key).isin(list(self.values))]


def run_filter(runs: Sequence[Path]) -> RunFilter:
    """By id, or, where a run is from before there were ids, by name."""
    ids = [run_id(run) for run in runs]
    if None in ids:
        return RunFilter("Name", tuple(dict.fromkeys(run.absolute().name for run in runs)))
    return RunFilter("ID", tuple(str(one) for one in ids))


def metric_names(runs: Sequence[Path]) -> list[str]:
    """All that any of the runs logged, in the order of first sight."""
    names: dict[str, None] = {}
    for run in runs:
        try:
            lines = (run / METRICS_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                continue  # cut off by a crash
            names |= dict.fromkeys(name for name in record if "/" in name) if isinstance(record, dict) else {}
    return list(names)


def views(names: Iterable[str]) -> list[Section]:
    """The sections for runs that log `names`; panels without anything to show are left out."""
    known = list(names)

    def under(prefix: str) -> tuple[str, ...]:
        return tuple(name for name in known if name == prefix or name.startswith(f"{prefix}/"))[:_MOST]

    def only(*wanted: str) -> tuple[str, ...]:
        return tuple(name for name in wanted if name in known)

    parts = only(*(f"val/shapley/{part}" for part in ("video", "audio", "synergy")))
    share = only("val/shapley/audio")
    every = [
        Section("Scores", "How well runs tag and caption.", (
            Panel("lines", "mAP by family", under("val/mAP")),
            Panel("bars", "mAP", only("val/mAP")),
            Panel("lines", "losses", only("train/loss", "val/loss")),
            Panel("lines", "accuracy", (*only("val/mean_accuracy"), *under("val/accuracy"))),
            Panel("lines", "captions", tuple(n for n in under("val/captions") if n.count("/") == 2)),
            Panel("table", "families, tags and heads", _TABLES if share else ()),
        )),
        Section("Sound or picture, causal", "What scores depend on: believe these about what a result rests on.", (
            Panel("lines", "Shapley split", parts),
            Panel("bars", "Shapley split, last", parts),
            *(Panel("lines", f"{part} by family and tag", under(f"val/shapley/{part}")[1:])
              for part in ("video", "audio", "synergy")),
            Panel("points", "mAP against the sound's share", only("val/mAP") if share else (), "val/shapley/audio"),
            Panel("lines", "permutation scores", under("val/permutation")),
            Panel("lines", "one sense right, both wrong", under("val/confusion")),
        )),
        Section("Sound or picture, descriptive", "What models look at; it may differ from what they need.", (
            Panel("lines", "attention on sound over its prior, log-ratio", under("val/attention_log_ratio")),
            Panel("lines", "gates on sound over their prior, log-ratio", under("val/gate_log_ratio")),
            Panel("lines", "lag of attention, s", under("val/attention_lag_s")),
        )),
        Section("Sound or picture, training", "What training worked on.", (
            Panel("lines", "share of the encoders' gradient", under("train/gradient_share")),
            Panel("lines", "gradient norms", under("train/gradient_norm")),
            Panel("lines", "losses of one sense alone", only("train/loss_video", "train/loss_audio")),
        )),
    ]  # fmt: skip
    kept = [(section, tuple(panel for panel in section.panels if panel.y)) for section in every]
    return [Section(section.name, section.about, panels) for section, panels in kept if panels]


def _send(config: Config, sections: Sequence[Section], which: RunFilter) -> list[str]:
    """The addresses of the workspace and the report. Raises UsageError without library or account."""
    try:
        import wandb
        import wandb_workspaces.reports.v2 as reports
        import wandb_workspaces.workspaces as workspaces
    except ImportError:
        raise UsageError("online=true needs wandb-workspaces; pip install 'mmattn[dashboard]'") from None
    if os.environ.get("WANDB_MODE") == "offline" or not (os.environ.get("WANDB_API_KEY") or wandb.api.api_key):
        raise UsageError("online=true needs an account; wandb login, or leave it out to see what would be sent")
    try:
        entity = str(config["entity"] or wandb.Api().default_entity)
        names = (entity, str(config["project"]), str(config["name"]))
        workspace, report = build(*names, sections, which, reports, workspaces)
        workspace.save()
        report.save()
    except Exception as error:  # whatever the service answers
        why = first_line(error)
        raise MmattnError(f"wandb project {config['project']}: the dashboard was not made ({why})") from None
    return [str(workspace.url), str(report.url)]


def build(
    entity: str, project: str, name: str, sections: Sequence[Section], which: RunFilter, reports: Any, workspaces: Any
) -> Any:
    """wandb's own objects for the sections: a workspace and a report over the runs of `which`, neither sent yet."""
    filters = which.expressions(workspaces.Metric)
    workspace = workspaces.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[
            workspaces.Section(name=section.name, is_open=True, panels=_panels(section, reports))
            for section in sections
        ],
        runset_settings=workspaces.RunsetSettings(filters=filters),
    )  # fmt: skip
    blocks: list[Any] = []
    for section in sections:
        runset = reports.Runset(entity=entity, project=project, name="runs", filters=filters)
        blocks += [reports.H2(text=section.name), reports.P(text=section.about)]
        blocks.append(reports.PanelGrid(runsets=[runset], panels=_panels(section, reports)))
    report = reports.Report(entity=entity, project=project, title=name, description="mmattn dashboard", blocks=blocks)
    return workspace, report


def _panels(section: Section, reports: Any) -> list[Any]:
    made: list[Any] = []
    for panel in section.panels:
        if panel.kind == "lines":
            made.append(reports.LinePlot(title=panel.title, x=panel.x, y=list(panel.y)))
        elif panel.kind == "bars":
            made.append(reports.BarPlot(title=panel.title, metrics=list(panel.y)))
        elif panel.kind == "points":
            axes = (reports.SummaryMetric(panel.x), reports.SummaryMetric(panel.y[0]))
            made.append(reports.ScatterPlot(title=panel.title, x=axes[0], y=axes[1]))
        else:
            made += [reports.WeavePanelSummaryTable(table_name=name) for name in panel.y]
    return made
