"""Scenes become files: a folder of clips and a manifest, resumable.

The manifest comes last and whole, so that its presence means that the set is complete. A clip depends on the set's seed
and its own index only: a set that was interrupted, or that is to grow, keeps the clips it has.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from pathlib import Path

import numpy as np

from mmattn.data.avshapes.audio import render_audio
from mmattn.data.avshapes.scene import FPS, SAMPLE_RATE, SECONDS, Scene, describe
from mmattn.data.avshapes.video import render_video
from mmattn.data.avshapes.words import caption, tags
from mmattn.errors import UsageError
from mmattn.files import expanded, write_atomically
from mmattn.media.write.video import write_video
from mmattn.process.startup import safe_children

VERSION = 1  # of what is drawn and how; a set of another version is never continued
ENCODER = {"preset": "veryfast"}  # a third of the default preset's time at about the same size
CHUNK = 10  # clips between two reports of progress
SPLIT_PERIOD = ("train", "val", "test", *["train"] * 5, "val", "test", *["train"] * 5, "val", "test", *["train"] * 3)
"""70 % train, 15 % val, 15 % test, interleaved so that the first three clips already hold all three."""


def render(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Frames (48, 96, 96, 3) uint8 and waveform (48000,) float32 in [-1, 1]."""
    return render_video(scene), render_audio(scene)


def manifest_row(seed: int, index: int) -> dict[str, object]:
    """One line of the manifest."""
    scene = describe(seed, index)
    true = tags(scene)
    return {
        "id": f"{index:06d}",
        "path": _clip_name(index),
        "start": 0.0,
        "end": SECONDS,
        "tags": list(true),
        "captions": [caption(scene)],
        "split": SPLIT_PERIOD[index % len(SPLIT_PERIOD)],
        "families": true,
        "generator": _generator(seed),
    }


def make_avshapes(
    root: str | Path,
    clips: int,
    seed: int = 0,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write `clips` clips under `root`, or what is missing of them, and return the manifest's path.

    With more than one worker the clips are made in fresh processes, so a script that calls this needs the usual
    `if __name__ == "__main__":`. `progress(done, total)` is called now and then. Raises UsageError for a folder that
    holds a set of another seed or version, and for a number of clips or workers below 1.
    """
    root = expanded(root)
    if clips < 1 or workers < 1:
        raise UsageError(f"AVShapes needs at least one clip and one worker, got clips={clips} workers={workers}")
    _claim(root, seed)
    manifest = root / "manifest.jsonl"
    missing = [index for index in range(clips) if not (root / _clip_name(index)).is_file()]
    if missing:
        manifest.unlink(missing_ok=True)
    done = clips - len(missing)
    with closing(_make(root, seed, missing, workers)) as making:
        for made in making:
            done += made
            if progress is not None:
                progress(done, clips)
    rows = "".join(json.dumps(manifest_row(seed, index)) + "\n" for index in range(clips))
    if not manifest.is_file() or manifest.read_text(encoding="utf-8") != rows:
        write_atomically(manifest, rows.encode())
    return manifest


def _clip_name(index: int) -> str:
    return f"clips/{index:06d}.mp4"


def _generator(seed: int) -> dict[str, object]:
    return {"name": "avshapes", "version": VERSION, "seed": seed}


def _claim(root: Path, seed: int) -> None:
    """Mark the folder as this set's, because an unfinished set has no manifest to say whose clips these are."""
    (root / "clips").mkdir(parents=True, exist_ok=True)
    mark, ours = root / "generator.json", json.dumps(_generator(seed)) + "\n"
    if not mark.is_file():
        if (root / "manifest.jsonl").exists() or next((root / "clips").iterdir(), None) is not None:
            raise UsageError(f"{root} holds clips that AVShapes did not make: choose another folder")
        write_atomically(mark, ours.encode())
    elif (theirs := mark.read_text(encoding="utf-8")) != ours:
        raise UsageError(f"{root} holds {theirs.strip()}, not {ours.strip()}: choose another folder or delete this one")


def _make(root: Path, seed: int, indices: list[int], workers: int) -> Generator[int, None, None]:
    """Write these clips; yield how many were written each time some are."""
    chunks = [indices[start : start + CHUNK] for start in range(0, len(indices), CHUNK)]
    if workers == 1 or len(chunks) <= 1:
        for chunk in chunks:
            yield _write_clips(root, seed, chunk)
        return
    spawn = multiprocessing.get_context("spawn")  # forking a process that has threads may hang
    with safe_children(), ProcessPoolExecutor(min(workers, len(chunks)), spawn, _ignore_interrupt) as pool:
        futures = [pool.submit(_write_clips, root, seed, chunk) for chunk in chunks]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _ignore_interrupt() -> None:
    """Leave Ctrl-C to the parent, which lets the workers finish what they are writing and starts nothing more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _write_clips(root: Path, seed: int, indices: list[int]) -> int:
    for index in indices:
        frames, waveform = render(describe(seed, index))
        write_video(root / _clip_name(index), frames, FPS, waveform, SAMPLE_RATE, options=ENCODER)
    return len(indices)
