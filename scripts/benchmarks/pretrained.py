"""How right tags without training are.

    python scripts/benchmarks/pretrained.py [WEIGHTS] [--sounds DIR] [--pictures DIR]

WEIGHTS: the folder with YAMNet; without it, the installed packages. DIR of sounds: a folder for each class of ESC-10,
compared with AudioSet's classes of that name (the table below, made by hand; the highest of a file's frames decides).
DIR of pictures: ImageNet's, with the class name after the first underscore of the file name. Through the whole
pipeline, decoding included.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path

import torch

from mmattn.inference.annotators.base.interface import Setting
from mmattn.inference.annotators.base.shared_decode import Annotators, from_window_start
from mmattn.inference.annotators.sounds import Sounds
from mmattn.inference.annotators.things import Things
from mmattn.media.isolate.reader import IsolatedReader

ESC10 = {
    "baby_cry": ["Baby cry, infant cry"],
    "chainsaw": ["Chainsaw"],
    "clock_tick": ["Tick", "Tick-tock", "Clock"],
    "dog_bark": ["Bark"],
    "fire_crackling": ["Fire", "Crackle"],
    "helicopter": ["Helicopter"],
    "person_sneeze": ["Sneeze"],
    "rain": ["Rain", "Raindrop", "Rain on surface"],
    "rooster": ["Crowing, cock-a-doodle-doo"],
    "sea_waves": ["Ocean", "Waves, surf"],
}


def sounds(finder: Sounds, reader: IsolatedReader, folder: Path) -> None:
    windows = Annotators([finder]).windows()
    places = {name: [finder.names.index(tag) for tag in tags] for name, tags in ESC10.items()}
    files, right, taken = sorted(folder.rglob("*.ogg")), Counter(), Counter()
    started = time.monotonic()
    for path in files:
        heard = [from_window_start(clip, clip.waveform) for clip in reader.windows(path, windows)]
        scores = torch.cat([finder.scores(waveform) for waveform in heard if waveform is not None])
        most = scores.max(dim=0).values
        said = max(places, key=lambda name: float(most[places[name]].max()))
        right[path.parent.name] += said == path.parent.name
        taken[path.parent.name, said] += said != path.parent.name
    print(f"sounds: {sum(right.values())} of {len(files)} right, {time.monotonic() - started:.0f} s")
    for (true, said), count in (+taken).items():
        print(f"  {true} taken for {said}: {count}")


def pictures(finder: Things, reader: IsolatedReader, folder: Path) -> None:
    windows = Annotators([finder]).windows()
    names = [name.lower().replace(" ", "_") for name in finder.names]
    files, first, five = sorted(folder.glob("*.JPEG")), 0, 0
    started = time.monotonic()
    for path in files:
        frames = next(reader.windows(path, windows)).frames
        assert frames is not None
        (scores,) = finder.scores(frames)
        best = [names[i] for i in scores.topk(5).indices.tolist()]
        true = path.stem.partition("_")[2].lower()
        first, five = first + (best[0] == true), five + (true in best)
    print(f"pictures: {first} of {len(files)} right, {five} among the first five, {time.monotonic() - started:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="?")
    parser.add_argument("--sounds", type=Path)
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with IsolatedReader() as reader, torch.inference_mode():
        if options.sounds:
            sounds(Sounds(Setting(options.weights)), reader, options.sounds)
        if options.pictures:
            pictures(Things(Setting(options.weights)), reader, options.pictures)


if __name__ == "__main__":
    main()
