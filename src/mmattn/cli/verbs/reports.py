"""mmattn browse, explain, compare, dashboard and demo: pages over runs and libraries."""

from __future__ import annotations

from collections.abc import Sequence

from mmattn.cli.verbs.verb import Verb, check_inputs, with_keys
from mmattn.config.compose import Config
from mmattn.errors import UsageError


def _browse(config: Config, overrides: Sequence[str]) -> object:
    from mmattn.reports.library.browse import browse

    return browse(config)


def _explain(config: Config, overrides: Sequence[str]) -> object:
    check_inputs(config)
    from mmattn.reports.explain.checks import check

    check(config)
    from mmattn.reports.explain.command import explain

    return explain(config)


def _compare_overrides(typed: list[str]) -> list[str]:
    if trains := [text for text in typed if text.startswith(("plan=", "grid=", "budget=", "dry_run="))]:
        grid = trains[0].replace("plan=", "grid=")
        raise UsageError(
            f"{trains[0]}: compare only reads; train with: mmattn train -m {grid} sweep=NAME sweep.evaluate=test, "
            "then: mmattn compare sweep=runs/sweeps/NAME"
        )
    return typed


def _compare(config: Config, overrides: Sequence[str]) -> object:
    from mmattn.reports.page.options import check

    check(config)
    from mmattn.reports.page.compare import compare

    return compare(config)


def _dashboard(config: Config, overrides: Sequence[str]) -> object:
    from mmattn.reports.workspace.dashboard import dashboard

    return dashboard(config)


def _demo(config: Config, overrides: Sequence[str]) -> None:
    from mmattn.demo import demo

    demo(config)


REPORTING = {
    "demo": Verb(_demo),
    "browse": Verb(_browse, lambda typed: with_keys(typed, ("library",), ("out", "thumbnails"))),
    "explain": Verb(_explain),
    "compare": Verb(_compare, _compare_overrides),
    "dashboard": Verb(_dashboard),
}
