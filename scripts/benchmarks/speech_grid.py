"""Word error rate of the annotator `speech` on read sentences, clean and in babble.

    python scripts/benchmarks/speech_grid.py GRID [--snr 0] [--clips N] [--pretrained package]

GRID: a folder with manifest.jsonl, whose captions are what is said. Babble is the sum of four other clips, drawn by a
seed and the clip's number, at that ratio over the whole clip. Digits are spelt out and case and punctuation left out
before comparing. The rate is that of all words together: substituted, left out and added, over those that were said.
"""

from __future__ import annotations

import argparse
import random
import re
from pathlib import Path

import numpy as np
import torch
from torchaudio.functional import edit_distance

from mmattn.data.manifest.rows import Row, read_manifest
from mmattn.errors import MediaError
from mmattn.inference.annotators.base.interface import Setting
from mmattn.inference.annotators.speech import Speech
from mmattn.media import read_clip

RATE, OTHERS, SEED = 16000, 4, 0
DIGITS = "zero one two three four five six seven eight nine".split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--snr", type=float, help="of speech over babble, dB; without it clean")
    parser.add_argument("--clips", type=int, help="so many, evenly spread")
    parser.add_argument("--pretrained", default="package")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for row in read_manifest(options.folder / "manifest.jsonl") if row.captions]
    chosen = range(0, len(rows), max(1, len(rows) // options.clips)) if options.clips else range(len(rows))
    speech = Speech(Setting(), pretrained=options.pretrained, language="en")
    wrong = said = silent = done = 0
    for number in chosen:
        try:
            sound = noisy(rows, number, options.snr)
        except MediaError as error:
            print(error)
            continue
        heard = words_of(" ".join(each["text"] for each in sentences(speech, sound)))
        true = words_of(rows[number].captions[0])
        wrong, said, silent = wrong + edit_distance(true, heard), said + len(true), silent + (not heard)
        done += 1
        if done % 50 == 0:
            print(f"{done}: {wrong / said:.3f}", flush=True)
    where = "clean" if options.snr is None else f"babble at {options.snr:g} dB"
    print(f"{where}: {done} sentences, word error rate {wrong / said:.3f}; in {silent} no word was heard")


def sentences(speech: Speech, sound: np.ndarray) -> list[dict]:
    spans = speech.speech_in(sound)
    return speech.transcribe(sound, spans, 0.0) if spans else []


def noisy(rows: list[Row], number: int, snr_db: float | None) -> np.ndarray:
    """A clip's sound, with babble of four others."""
    sound = _sound(rows[number])
    if snr_db is None:
        return sound
    stream = random.Random(f"{SEED}/{number}")
    babble = np.zeros_like(sound)
    for other in stream.sample([i for i in range(len(rows)) if i != number], OTHERS):
        voice = _sound(rows[other])
        babble += np.resize(voice / (np.sqrt(np.square(voice).mean()) + 1e-9), len(sound))
    power, noise = np.square(sound).mean(), np.square(babble).mean()
    return (sound + babble * np.sqrt(power / noise / 10 ** (snr_db / 10))).astype(np.float32)


def _sound(row: Row) -> np.ndarray:
    waveform = read_clip(row.path, start=row.start, end=row.end, video=False, audio_rate=RATE).waveform
    assert waveform is not None, f"{row.path} has no sound"
    return waveform.numpy()


def words_of(text: str) -> list[str]:
    """bin blue at F2 now -> bin blue at f two now."""
    spelt = re.sub(r"\d", lambda digit: f" {DIGITS[int(digit[0])]} ", text.lower())
    return re.findall(r"[a-z']+", spelt)


if __name__ == "__main__":
    main()
