"""`mmattn predict`: makes exactly one record for every file of a source, whatever is wrong with the file.

The work is a job in a folder beside the output (see jobs): files are listed once, processed in shards by an engine, and
the same command continues where it stopped. When all shards are done, their records become the output (see writers).
"""

from __future__ import annotations

import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from mmattn.config.compose import Config, build
from mmattn.data.output_folder import alone_in, holds_others, making
from mmattn.errors import MmattnError, Stopped, UsageError
from mmattn.files import expanded
from mmattn.inference.commands.predict_checks import check, choose_annotators
from mmattn.inference.commands.predict_recipe import recipe_of
from mmattn.inference.engines.local import LocalEngine
from mmattn.inference.engines.ray import RayEngine
from mmattn.inference.engines.slurm import SlurmEngine
from mmattn.inference.jobs.job import Job, Update
from mmattn.inference.jobs.listing import list_source
from mmattn.inference.writers.output import Output, output_of
from mmattn.text import counted

JOB_SUFFIX = ".job"
RECIPE = "job.json"
WITHOUT_TAGS = {"shots", "speech", "text", "captions"}  # annotators that find other things


def predict(config: Config) -> str:
    """Make a record for each file of `source` that has none; returns a summary.

    Raises UsageError for a wrong setting, for a job of another model or other settings, and if no file could be read
    (the records are written all the same); MmattnError if work cannot continue.
    """
    check(config)
    left_out = choose_annotators(config) if config["model"] == "pretrained" else {}
    recipe, output, engine = recipe_of(config), output_of(config), build(config["engine"])
    job = _open_job(config, output)
    notes: list[str] = []
    listing = list_source(str(config["source"]), without=job.root, digests=config["identity"] == "hash")
    output.check([Path(entry.path) for entry in listing.entries])
    if left_out:
        named = "; ".join(f"{name} needs {missing}" for name, missing in left_out.items())
        print(f"mmattn: annotators=auto leaves out what is not installed or not set up: {named}", file=sys.stderr)
    with making(job.root, RECIPE, recipe):
        update = job.update(listing.entries, config["shard_files"], config["retry_failed"])
        todo = job.open_shards()
        if todo:
            output.forget(job)
            job.write_settings(config)
            _run(engine, job, todo)
        job.tidy()
        if not output.is_written(job, update.removed):
            notes = output.write(job, update.removed)
    return _summary(job, output.out, listing.skipped, update, notes, is_new=bool(todo))


def _open_job(config: Config, output: Output) -> Job:
    """Raises UsageError for a folder that holds something else, or that another command is using with resume=false."""
    beside = output.out.with_name(output.out.name + JOB_SUFFIX)
    job = Job(beside if config["job"] is None else expanded(str(config["job"])))
    if job.root.exists() and not job.root.is_dir():
        raise UsageError(f"job={job.root}: is a file; name a folder for the work, or a new one")
    if job.root.is_dir() and holds_others(job.root) and not (job.root / RECIPE).is_file():
        raise UsageError(f"{job.root}: is not a job of mmattn predict and contains other files; name a new folder")
    if not config["resume"] and job.root.is_dir():
        with alone_in(job.root):
            shutil.rmtree(job.root, ignore_errors=True)
    return job


def _run(engine: LocalEngine | SlurmEngine | RayEngine, job: Job, todo: list[int]) -> None:
    try:
        with stopping_on_sigterm():
            engine.run(job, todo)
    except (KeyboardInterrupt, MmattnError) as error:
        counts = [(job.done_count(shard), job.count(shard)) for shard in job.shards()]
        done, total = (sum(each) for each in zip(*counts, strict=True))
        if not done and getattr(error, "exit_code", 1) == 2:
            shutil.rmtree(job.root)  # a wrong setting leaves no job behind
        else:
            some = f"{done} of {counted(total, 'file')} {'is' if total == 1 else 'are'} done"
            print(f"mmattn: {some}; run the same command again to continue", file=sys.stderr)
        raise


@contextmanager
def stopping_on_sigterm() -> Iterator[None]:
    """Makes SIGTERM end the body as Ctrl-C does, with its own exit code."""

    def stop(number: int, frame: FrameType | None) -> None:
        stopped = Stopped("stopped; run the same command again to continue")
        stopped.exit_code = 128 + number
        raise stopped

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _summary(job: Job, out: Path, skipped: Counter[str], update: Update, notes: list[str], is_new: bool) -> str:
    """Raises UsageError if no file could be read."""
    counts: Counter[str] = Counter()
    found: Counter[str] = Counter()  # files with any of these
    may_tag = False
    for record in job.records(update.removed):
        counts[record.get("reason", "ok")] += 1
        may_tag |= record["status"] == "ok" and not WITHOUT_TAGS.issuperset(record.get("versions", ("run",)))
        found.update(name for name in ("tags", "captions", "transcript") if record.get(name))
    failed = "".join(f", {count} {reason}" for reason, count in sorted(counts.items()) if reason != "ok")
    left_out = ", ".join(f"{count} {why}" for why, count in skipped.items())
    text = f"{counted(sum(counts.values()), 'file')}: {counts['ok']} answered{failed}"
    text += f" (left out: {left_out})" if left_out else ""
    if not counts["ok"]:
        raise UsageError(f"{out}: no readable file ({text}); the records say why")
    if update.changed:
        text += f"; {update.changed} changed since the last run and processed again"
    if update.removed:
        text += f"; {len(update.removed)} no longer there and left out"
    untagged = counts["ok"] - found["tags"]
    if untagged and may_tag and (found["tags"] or not found):  # not for a model that only captions
        notes = [*notes, f"{counted(untagged, 'file')} without a tag: a lower threshold= lists what is less sure"]
    more = "".join(f"; {each}" for each in notes)
    return f"{text}{'' if is_new else ', nothing new'} -> {out}{more}"
