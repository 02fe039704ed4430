"""A dashboard as wandb's own objects, and sending it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mmattn.config.compose import Config
from mmattn.errors import MmattnError, UsageError
from mmattn.reports.workspace.views import Section
from mmattn.training.directory.record import run_id


@dataclass(frozen=True)
class RunFilter:
    """The runs of a project to show: those whose `key` ("ID" or "Name", wandb's names) is one of `values`."""

    key: Literal["ID", "Name"]
    values: tuple[str, ...]

    def expressions(self, metric: Any) -> list[Any]:
        """The same as wandb's filter. `metric`: its class Metric."""
        return [metric(self.key).isin(list(self.values))]


def run_filter(runs: Sequence[Path]) -> RunFilter:
    """Filter by id, or by name where an older run has none."""
    ids = [run_id(run) for run in runs]
    if None in ids:
        return RunFilter("Name", tuple(dict.fromkeys(run.absolute().name for run in runs)))
    return RunFilter("ID", tuple(str(one) for one in ids))


def send(config: Config, sections: Sequence[Section], which: RunFilter) -> list[str]:
    """Save a workspace and a report; returns their addresses. Raises UsageError without the library or an account."""
    try:
        import wandb
        import wandb_workspaces.reports.v2 as reports
        import wandb_workspaces.workspaces as workspaces
    except ImportError:
        raise UsageError("online=true needs wandb-workspaces; pip install 'mmattn[dashboard]'") from None
    if os.environ.get("WANDB_MODE") == "offline" or not (os.environ.get("WANDB_API_KEY") or wandb.api.api_key):
        raise UsageError("online=true needs an account: run wandb login, or leave it out to see what would be sent")
    try:
        entity = str(config["entity"] or wandb.Api().default_entity)
        names = (entity, str(config["project"]), str(config["name"]))
        workspace, report = build(*names, sections, which, reports, workspaces)
        workspace.save()
        report.save()
    except Exception as error:  # whatever the service answers
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise MmattnError(f"wandb project {config['project']}: the dashboard was not saved ({why})") from None
    return [str(workspace.url), str(report.url)]


def build(
    entity: str, project: str, name: str, sections: Sequence[Section], which: RunFilter, reports: Any, workspaces: Any
) -> Any:
    """A workspace and a report over the runs of `which`, as objects of wandb that are not sent yet."""
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
