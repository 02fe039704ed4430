"""Word error rate of the annotator `speech` on the sentences of GRID, clean and in babble, as a Markdown table.

    python scripts/benchmarks/speech_grid.py GRID OUT.jsonl [--snr 0] [--clips N] [--pretrained package]

GRID: a folder with manifest.jsonl, whose captions are what is said. Each clip is read twice: clean, and with the noise
that `mmattn evaluate noise.kind=babble noise.snr_db=SNR` adds to it (four other clips of its split), so both are
compared on the same sound. Validation clips come first, then the others in random order, so that those that are done
are a sample of all. OUT has a line for each sentence; the same command continues it, and prints the table at its end.

Digits are spelt out, and case and punctuation are left out before comparing. The rate is that of all words together:
substituted, left out and added, over those that were said; 95 % intervals by bootstrap over sentences.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchaudio.functional import edit_distance

from mmattn.config.compose import compose
from mmattn.data.build import build_data
from mmattn.data.load.clip_data import ClipData
from mmattn.data.load.sampler import Draw
from mmattn.data.prepare.augment.audio import SoundAugment
from mmattn.data.prepare.augment.pipeline import Augment
from mmattn.inference.annotators.base.interface import Setting
from mmattn.inference.annotators.speech import Speech

DIGITS = "zero one two three four five six seven eight nine".split()
RESAMPLED, SEED = 2000, 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--snr", type=float, default=0.0, help="of speech over babble, dB")
    parser.add_argument("--clips", type=int, help="stop after so many")
    parser.add_argument("--pretrained", default="package")
    options = parser.parse_args()
    torch.set_num_threads(1)
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    known = {(each["id"], each["snr_db"]) for each in done}
    data = sound_of(options.folder)
    speech = Speech(Setting(), pretrained=options.pretrained, language="en")
    with options.out.open("a") as file:
        for split, index in order(data)[: options.clips]:
            for snr_db in (None, options.snr):
                if (data.rows[split][index].id, snr_db) not in known:
                    done.append(transcribed(speech, data, split, index, snr_db))
                    file.write(json.dumps(done[-1]) + "\n")
                    file.flush()
    print(table(done, options.snr))


def sound_of(folder: Path) -> ClipData:
    wanted = ["data.clip.video=false", "data.clip.waveform=true", "data.isolated=false", "data.cache_gb=1"]
    data = build_data(compose("train", ["data=folder", f"data.root={folder.resolve()}", *wanted])["data"])
    assert isinstance(data, ClipData)
    return data


def order(data: ClipData) -> list[tuple[str, int]]:
    """(split, index) of all clips."""
    rest = [("train", index) for index in range(len(data.rows["train"]))]
    random.Random(SEED).shuffle(rest)
    return [*(("val", index) for index in range(len(data.rows["val"]))), *rest]


def transcribed(speech: Speech, data: ClipData, split: str, index: int, snr_db: float | None) -> dict[str, Any]:
    noise = None if snr_db is None else Augment(sound=SoundAugment(noise=1.0, snr_db=(snr_db, snr_db)))
    item = data.dataset(split, augment=noise)[Draw(0, index)]
    assert item.real and item.sample.heard, f"{item.id} has no sound"
    sound = item.sample.waveform[: item.sample.heard].numpy()
    spans = speech.speech_in(sound)
    sentences = speech.transcribe(sound, spans, 0.0) if spans else []
    heard, true = words_of(" ".join(each["text"] for each in sentences)), words_of(item.captions[0])
    wrong = edit_distance(true, heard)
    return {"id": item.id, "split": split, "snr_db": snr_db, "said": true, "heard": heard, "wrong": wrong}


def table(done: list[dict[str, Any]], snr_db: float) -> str:
    lines = [f"| | sentences | clean | babble at {snr_db:g} dB | no word heard |", "|---|---|---|---|---|"]
    for name, splits in (("validation", ("val",)), ("all", ("val", "train"))):
        parts = [
            [each for each in done if each["split"] in splits and each["snr_db"] == level] for level in (None, snr_db)
        ]
        silent = [sum(not each["heard"] for each in part) for part in parts]
        cells = [name, str(min(map(len, parts))), *map(rate, parts), f"{silent[0]} and {silent[1]}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def rate(part: list[dict[str, Any]]) -> str:
    wrong, said = (np.array(each) for each in zip(*((one["wrong"], len(one["said"])) for one in part), strict=True))
    drawn = np.random.default_rng(SEED).integers(len(part), size=(RESAMPLED, len(part)))
    low, high = np.quantile(wrong[drawn].sum(1) / said[drawn].sum(1), (0.025, 0.975))
    return f"{wrong.sum() / said.sum():.3f} ({low:.3f} to {high:.3f})"


def words_of(text: str) -> list[str]:
    """bin blue at F2 now -> bin blue at f two now."""
    spelt = re.sub(r"\d", lambda digit: f" {DIGITS[int(digit[0])]} ", text.lower())
    return re.findall(r"[a-z']+", spelt)


if __name__ == "__main__":
    main()
