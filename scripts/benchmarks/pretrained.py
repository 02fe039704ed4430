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

from mmattn.inference.annotators.pretrained import PretrainedTagger
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


def sounds(tagger: PretrainedTagger, reader: IsolatedReader, folder: Path) -> None:
    assert tagger.sounds is not None
    places = {name: [tagger.sounds.names.index(tag) for tag in tags] for name, tags in ESC10.items()}
    files, right, taken = sorted(folder.rglob("*.ogg")), Counter(), Counter()
    started = time.monotonic()
    for path in files:
        scores = torch.cat([tagger.scores(clip)["audio"] for clip in reader.windows(path, tagger.windows())])
        most = scores.max(dim=0).values
        said = max(places, key=lambda name: float(most[places[name]].max()))
        right[path.parent.name] += said == path.parent.name
        taken[path.parent.name, said] += said != path.parent.name
    print(f"sounds: {sum(right.values())} of {len(files)} right, {time.monotonic() - started:.0f} s")
    for (true, said), count in (+taken).items():
        print(f"  {true} taken for {said}: {count}")


def pictures(tagger: PretrainedTagger, reader: IsolatedReader, folder: Path) -> None:
    assert tagger.things is not None
    names = [name.lower().replace(" ", "_") for name in tagger.things.names]
    files, first, five = sorted(folder.glob("*.JPEG")), 0, 0
    started = time.monotonic()
    for path in files:
        (scores,) = tagger.scores(next(reader.windows(path, tagger.windows())))["video"]
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
    with IsolatedReader() as reader:
        if options.sounds:
            sounds(PretrainedTagger(weights=options.weights, modalities=["audio"]), reader, options.sounds)
        if options.pictures:
            pictures(PretrainedTagger(weights=options.weights, modalities=["video"]), reader, options.pictures)


if __name__ == "__main__":
    main()
