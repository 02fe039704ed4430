"""`mmattn demo`: from rendered videos to a report, with nothing but what the package contains."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mmattn.checkpoint import load_model
from mmattn.config.compose import Config, compose
from mmattn.data.manifest.library import list_files
from mmattn.data.manifest.rows import Row
from mmattn.errors import UsageError
from mmattn.files import write_atomically
from mmattn.inference.annotators.catalogue import choose
from mmattn.inference.predictor.pipeline import Predictor
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.progress import log
from mmattn.reports.collect.clips import clips_file
from mmattn.reports.collect.runs import TEST_FILE
from mmattn.text import counted

HELD_OUT_SHOWN = 8
MARK = ".mmattn-demo"  # a file in folders that a demo may overwrite


def demo(config: Config) -> Path:
    """Render AVShapes, train each fusion, evaluate on held-out clips, tag some of them, write the report.

    `files` are annotated by the installed ready-made models, as tags learned from AVShapes mean nothing elsewhere.
    """
    from mmattn.reports.page.options import Options
    from mmattn.reports.page.report import write_report

    started = time.monotonic()
    if not config["fusions"]:
        raise UsageError("fusions=[]: name at least one fusion")
    sources = [config["files"]] if isinstance(config["files"], str) else config["files"]
    files = [file for source in sources for file in list_files(Path(source))]
    out = Path(config["out"])
    annotating = _annotating(files, out) if files else None
    steps = _StepLog(3 + len(config["fusions"]) + bool(files))
    steps.next(f"rendering {config['clips']} short videos with sound (AVShapes)")
    runs, data = _train(config, out, steps)
    steps.next(f"tagging {HELD_OUT_SHOWN} held-out clips")
    predictions = out / "predictions.jsonl"
    _predict(runs[-1], data.rows["test"][:HELD_OUT_SHOWN], predictions)
    if annotating:
        steps.next(f"annotating {counted(len(files), 'file')} of yours with ready-made models")
        _annotate(annotating)
    steps.next("writing the report")
    options = Options(measure="missing", samples=HELD_OUT_SHOWN)
    report = write_report(runs, predictions, out / "report.html", options=options)
    log(f"done in {time.monotonic() - started:.0f} s; open the report in a browser:")
    print(report)
    return report


class _StepLog:
    """Numbers the steps of the demo in what it logs."""

    def __init__(self, total: int) -> None:
        self._total, self._now = total, 0

    def next(self, what: str) -> None:
        """Log the step that begins."""
        self._now += 1
        log(f"[{self._now}/{self._total}] {what}")


def _train(config: Config, out: Path, steps: _StepLog) -> tuple[list[Path], Any]:
    """Train and evaluate each fusion; returns the runs and their data, which is read once."""
    from mmattn.training.directory.create import create_run
    from mmattn.training.run.check import check
    from mmattn.training.run.evaluate import evaluate_run
    from mmattn.training.run.train import train

    runs, data = [], None
    for fusion in config["fusions"]:
        train_config = compose("train", [f"fusion={fusion}", *_overrides(config, out / fusion)])
        checked, _ = check(train_config)
        data = data or checked
        steps.next(f"training fusion={fusion}")
        _clear(out, fusion)
        run = create_run(train_config)
        train(run, data)
        record = evaluate_run(run, "test", data, by_clip=clips_file(run, "test"))
        write_atomically(run / TEST_FILE, json.dumps(record, indent=1).encode())
        runs.append(run)
    return runs, data


def _overrides(config: Config, run: Path) -> list[str]:
    return [
        "data=avshapes",
        f"data.root={Path(config['videos']).as_posix()}",
        f"data.clips={config['clips']}",
        f"trainer.epochs={config['epochs']}",
        f"seed={config['seed']}",
        f"run={run.as_posix()}",
    ]


def _clear(out: Path, fusion: str) -> None:
    """Remove what an earlier demo left, but never another run."""
    from mmattn.training.directory.exclusive import exclusive

    if (out / fusion).exists():
        if not (out / MARK).is_file():
            raise UsageError(f"{out / fusion}: exists and is not a demo's; set out= to another folder")
        with exclusive(out / fusion):  # raises while another demo uses it
            pass
        shutil.rmtree(out / fusion)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).touch()


def _annotating(files: Sequence[Path], out: Path) -> Config:
    """The config of `mmattn predict` for the files. Raises UsageError when no annotator is installed."""
    library, listed = out / "files.jsonl", out / "files.txt"
    config = compose("predict", ["model=pretrained", "resume=false", f"source={listed}", f"out={library}"])
    try:
        choose(config)
    except UsageError as error:
        raise UsageError(
            f"files= are annotated by ready-made models: pip install 'mmattn[pretrained]' ({error})"
        ) from None
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(listed, "".join(f"{file.absolute()}\n" for file in files).encode("utf-8", "surrogateescape"))
    return config


def _annotate(config: Config) -> None:
    """Write the library and its page."""
    from mmattn.inference.commands.predict import predict
    from mmattn.reports.library.browse import browse

    library = Path(config["out"])
    try:
        log(predict(config))
    except UsageError as error:  # no file could be read; the records say why
        log(str(error))
    log(browse(compose("browse", [f"library={library}", f"out={library.with_suffix('.html')}"])))


def _predict(run: Path, rows: Iterable[Row], out: Path) -> None:
    with IsolatedReader(follow_symlinks=True) as reader:
        predictor = Predictor(load_model(run), reader=reader.read)
        held_out = list(rows)
        records = [
            {**record, "truth": list(row.tags)}
            for row, record in zip(held_out, predictor.records([row.path for row in held_out]), strict=True)
        ]
    write_atomically(out, "".join(json.dumps(record) + "\n" for record in records).encode())
