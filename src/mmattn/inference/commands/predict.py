"""`mmattn predict`: every file of a source gets exactly one record, whatever is wrong with it.

The work is a job in a folder beside the output (see jobs/): listed once, done in shards by processes that hold the
model, resumed by giving the same command again. When all shards are done, their records become the output (see
writers/).
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections import Counter
from pathlib import Path

from mmattn.config.compose import Config, build
from mmattn.data.made import alone_in, holds_others, making
from mmattn.errors import MmattnError, UsageError
from mmattn.files import MODEL_FILE, expanded, is_address
from mmattn.inference.annotators import catalogue
from mmattn.inference.engines.local import LocalEngine
from mmattn.inference.engines.local_driver import stopping
from mmattn.inference.engines.ray import RayEngine
from mmattn.inference.engines.slurm import SlurmEngine
from mmattn.inference.jobs.job import Job, Update
from mmattn.inference.jobs.listing import list_source
from mmattn.inference.writers.output import Output, output_of
from mmattn.media.read.picture.tone_map import HDRS
from mmattn.text import counted

JOB_SUFFIX = ".job"
RECIPE = "job.json"
PLAIN_VIEWS = {"crops": 1, "flip": False}
_OF_PRETRAINED = {"annotators": catalogue.AUTO, "weights": None, "hub": False, "modalities": ["video", "audio"]}
# What the answers depend on, beside weights.
_DECIDES = (
    "model",
    "threshold",
    "windows",
    "span_step_s",
    "shots",
    "views",
    "modalities",
    "attention",
    "decoding",
    "precision",
    "compile",
)
_DECIDES_IF_SET = ("hdr", "deinterlace")  # jobs that were begun without these keys go on


def predict(config: Config) -> str:
    """Tag the files of `source`; returns a summary. Only what has no answer yet is worked on.

    Raises UsageError for a wrong request, where another model or setting began the job, and when no file was readable
    (the records are written all the same); MmattnError where work cannot go on.
    """
    _check(config)
    without = _choose_annotators(config) if config["model"] == "pretrained" else {}
    recipe, output, engine = _recipe(config), output_of(config), build(config["engine"])
    job = _job(config, output)
    said: list[str] = []
    listing = list_source(str(config["source"]), without=job.root, digests=config["identity"] == "hash")
    output.check([Path(entry.path) for entry in listing.entries])
    if without:
        named = "; ".join(f"{name} needs {lacks}" for name, lacks in without.items())
        print(f"mmattn: annotators=auto leaves out what is not installed or not set up: {named}", file=sys.stderr)
    with making(job.root, RECIPE, recipe):
        update = job.update(listing.entries, config["shard_files"], config["retry_failed"])
        todo = job.open_shards()
        if todo:
            output.forget(job)
            job.write_settings(config)
            _run(engine, job, todo)
        job.tidy()
        if not output.is_written(job, update.gone):
            said = output.write(job, update.gone)
    return _summary(job, output.out, listing.skipped, update, said, fresh=bool(todo))


def _job(config: Config, output: Output) -> Job:
    """Raises UsageError for a folder that holds something else, or that is to be forgotten while others fill it."""
    beside = output.out.with_name(output.out.name + JOB_SUFFIX)
    job = Job(beside if config["job"] is None else expanded(str(config["job"])))
    if job.root.exists() and not job.root.is_dir():
        raise UsageError(f"job={job.root}: is a file; name a folder for the work, or a new one")
    if job.root.is_dir() and holds_others(job.root) and not (job.root / RECIPE).is_file():
        raise UsageError(f"{job.root}: is no job of mmattn predict and holds other files; name a new folder")
    if not config["resume"] and job.root.is_dir():
        with alone_in(job.root):
            shutil.rmtree(job.root, ignore_errors=True)
    return job


def _check(config: Config) -> None:
    if config["model"] not in (None, "pretrained") or (config["model"] is None and config["run"] is None):
        raise UsageError("give run=... for a trained model, model=pretrained for tags without training, or both")
    if config["run"] is None:
        for key in ("attention", "decoding"):
            if config.get(key) is not None:
                raise UsageError(f"{key} is of a trained model; add run=...")
    if config["model"] is None:
        for key, default in _OF_PRETRAINED.items():
            if config[key] != default:
                raise UsageError(f"{key}={config[key]}: is for model=pretrained, not for run=")
    for key, least in (("windows", 1), ("batch_size", 1), ("decoders", 0), ("shard_files", 1)):
        if config[key] != "auto" and config[key] < least:
            raise UsageError(f"{key}={config[key]}: expected {least} or more")
    if config["precision"] != "32":
        from mmattn.inference.predictor.speed import Speed  # with torch

        Speed(config["precision"])
    threshold, step = config["threshold"], config["span_step_s"]
    if threshold is not None and not (isinstance(threshold, (int, float)) and 0 <= threshold <= 1):
        raise UsageError(f"threshold={threshold}: expected 0 to 1, or null for the calibrated ones")
    if step is not None and not (isinstance(step, (int, float)) and step > 0):
        raise UsageError(f"span_step_s={step}: expected a number of seconds above 0, or null")
    if step is not None and config["model"] == "pretrained":
        raise UsageError("span_step_s is for trained models; model=pretrained always tells times, in steps of 0.48 s")
    if config["shots"]:
        if config["model"] == "pretrained" or step is not None:
            why = "model=pretrained looks at every 0.48 s" if step is None else "span_step_s is another way to read"
            raise UsageError(f"shots=true is for spans of trained models, and {why}; choose one")
        from mmattn.inference.shots.cuts import check_installed  # with torch

        check_installed()
    if config["views"] != PLAIN_VIEWS:
        from mmattn.data.prepare.views import Views  # with torch

        Views(**config["views"])
        if config["model"] == "pretrained":
            raise UsageError("views are for trained models; model=pretrained looks at the middle of each picture")
    if config["identity"] not in ("stat", "hash"):
        raise UsageError(f"identity={config['identity']}: expected stat (size and time of change) or hash (content)")
    if config.get("hdr") not in (None, *HDRS):
        raise UsageError(f"hdr={config['hdr']}: expected {', '.join(HDRS)} or null")
    if config.get("deinterlace") not in (None, True, False):
        raise UsageError(f"deinterlace={config['deinterlace']}: expected true, false or null")
    if config["deadline_s"] <= 0:
        raise UsageError(f"deadline_s={config['deadline_s']}: expected a number of seconds above 0")
    if not isinstance(config["source"], (str, int, float)):
        raise UsageError(f"source={config['source']}: expected one file, directory, pattern, list or manifest")


def _choose_annotators(config: Config) -> dict[str, str]:
    """Put the annotators that are to work in place of what `annotators` says; returns those left out, and why.

    Raises UsageError.
    """
    if (folder := config["weights"]) is not None and not expanded(str(folder)).is_dir():
        raise UsageError(f"weights={folder}: no such folder")
    config["annotators"], without = catalogue.choose(config)
    return without


def _recipe(config: Config) -> Config:
    """What the answers depend on. Raises UsageError where a trained model is not there."""
    files: list[Path] = []
    if config["model"] == "pretrained":
        folder = expanded(str(config["weights"])) if config["weights"] is not None else None
        files = sorted(path for path in folder.iterdir() if path.is_file()) if folder and folder.is_dir() else []
    if config["run"] is not None:
        run = expanded(str(config["run"]))
        if is_address(run):
            raise UsageError(f"{run}: a checkpoint is a local file; download it first")
        files.append(run / MODEL_FILE if run.is_dir() else run)
        if not files[-1].is_file():
            hint = "; it holds no finished epoch" if run.is_dir() else ""
            raise UsageError(f"{files[-1]}: no such model{hint}; train one with: mmattn train run={run}")
    if config["prompts"] is not None:
        files.append(expanded(str(config["prompts"])))
        if config["model"] == "pretrained" or not files[-1].is_file():
            why = "no such file" if config["model"] is None else "model=pretrained has tags of its own"
            raise UsageError(f"prompts={config['prompts']}: {why}")
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    chosen = {name: config[name] for name in _DECIDES_IF_SET if config.get(name) is not None}
    if config["identity"] != "stat":
        chosen["identity"] = config["identity"]
    if config["model"] == "pretrained":
        chosen["annotators"] = catalogue.recipe(config["annotators"], config)
    return {"weights": digest.hexdigest(), **{name: config.get(name) for name in _DECIDES}, **chosen}


def _run(engine: LocalEngine | SlurmEngine | RayEngine, job: Job, todo: list[int]) -> None:
    try:
        with stopping():
            engine.run(job, todo)
    except (KeyboardInterrupt, MmattnError) as error:
        counts = [(job.done_count(shard), job.count(shard)) for shard in job.shards()]
        done, total = (sum(each) for each in zip(*counts, strict=True))
        if not done and getattr(error, "exit_code", 1) == 2:
            shutil.rmtree(job.root)  # of a wrong request nothing is left
        else:
            some = f"{done} of {counted(total, 'file')} {'is' if total == 1 else 'are'} done"
            print(f"mmattn: {some}; the same command goes on", file=sys.stderr)
        raise


def _summary(job: Job, out: Path, skipped: Counter[str], update: Update, said_of_output: list[str], fresh: bool) -> str:
    counts: Counter[str] = Counter()
    found: Counter[str] = Counter()  # of the files that were answered, how many have any of these
    for record in job.records(update.gone):
        counts[record.get("reason", "ok")] += 1
        found.update(name for name in ("tags", "captions", "transcript") if record.get(name))
    failed = "".join(f", {count} {reason}" for reason, count in sorted(counts.items()) if reason != "ok")
    left_out = ", ".join(f"{count} {why}" for why, count in skipped.items())
    said = f"{counted(sum(counts.values()), 'file')}: {counts['ok']} answered{failed}" + (
        f" ({left_out})" if left_out else ""
    )
    if not counts["ok"]:
        raise UsageError(f"{out}: no readable file ({said}); reasons are in it")
    if update.changed:
        said += f"; {update.changed} had changed and were answered again"
    if update.gone:
        said += f"; {len(update.gone)} of before are gone, and their records left out"
    untagged = counts["ok"] - found["tags"]
    if untagged and (found["tags"] or not found):  # not of a model that only captions
        which = f"{counted(untagged, 'file')} without a tag"
        said_of_output = [*said_of_output, f"{which}: a lower threshold= lists what is less sure"]
    more = "".join(f"; {each}" for each in said_of_output)
    return f"{said}{'' if fresh else ', all known before'} -> {out}{more}"
