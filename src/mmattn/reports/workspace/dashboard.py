"""`mmattn dashboard`: the views of a comparison in wandb, as a workspace and a report over a project's runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mmattn.config.compose import Config
from mmattn.errors import UsageError
from mmattn.files import check_output, followed, write_atomically
from mmattn.reports.collect.metrics import METRICS_FILE, read_metrics
from mmattn.reports.collect.select import check_exist, select_runs
from mmattn.reports.workspace.send import run_filter, send
from mmattn.reports.workspace.views import views
from mmattn.text import counted


def dashboard(config: Config) -> str:
    """Write what is shown and, with online=true, send it; returns a line for the terminal.

    Raises UsageError, and MmattnError where the service refuses.
    """
    runs = select_runs(config["runs"], config["sweep"])
    check_exist(runs)
    sections = views(metric_names(runs))
    if not sections:
        raise UsageError(f"{counted(len(runs), 'run')}: none has logged a metric yet (no {METRICS_FILE})")
    out, which = followed(Path(str(config["out"]))), run_filter(runs)
    check_output(out, f"out={config['out']}")
    links = send(config, sections, which) if config["online"] else []
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
    if links:
        return f"{what} -> {' '.join(links)}"
    return f"{what}; nothing was sent (online=true sends it) -> {out}"


def metric_names(runs: Sequence[Path]) -> list[str]:
    """Every metric that any of the runs logged, in order of appearance."""
    return list(dict.fromkeys(name for run in runs for record in read_metrics(run) for name in record if "/" in name))
