"""MSR-VTT (Xu et al., CVPR 2016): ten thousand clips, twenty English sentences each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from mmattn.data.manifest.adapters.annotated import AnnotatedClip, AnnotatedSource
from mmattn.data.manifest.adapters.annotation_files import csv_lines, entries, plain_name, read_json
from mmattn.errors import UsageError

Protocol = Literal["2016", "1k-A"]
_SPLITS = {"train": "train", "validate": "val", "test": "test"}
_TEST_1KA, _TRAIN_1KA = "MSRVTT_JSFUSION_test.csv", "MSRVTT_train.9k.csv"
_CATEGORIES = (
    *("music", "people", "gaming", "sports/actions", "news/events/politics", "education", "tv shows", "movie/comedy"),
    *("animation", "vehicles/autos", "howto", "travel", "science/technology", "animals/pets", "kids/family"),
    *("documentary", "food/drink", "cooking", "beauty/fashion", "advertisement"),
)


@dataclass(frozen=True, kw_only=True)
class MSRVTTSource(AnnotatedSource):
    """The json files of the annotations that hold `videos` and `sentences`; the category is a tag, category/music.

    `protocol` "2016": the splits that the files tell (6,513 train, 497 validate, 2,990 test). "1k-A" (Yu et al., ECCV
    2018): the 1,000 videos of MSRVTT_JSFUSION_test.csv, with the one sentence given there, are the test split, those of
    MSRVTT_train.9k.csv (absent: all others) the training split, of which `val_fraction` is held out.
    """

    name: ClassVar[str] = "MSR-VTT"

    protocol: Protocol = "2016"

    def clips(self) -> Iterator[AnnotatedClip]:
        if self.protocol not in get_args(Protocol):
            raise UsageError(f"data.source.protocol={self.protocol}: expected {' or '.join(get_args(Protocol))}")
        folder = self.annotation_folder
        videos, captions = _read(folder)
        test, train = _split_1ka(folder) if self.protocol == "1k-A" else ({}, None)
        for video, (entry, where) in videos.items():
            split, said = entry.get("split"), captions.get(video, [])
            if self.protocol == "1k-A":
                if video not in test and train is not None and video not in train:
                    continue
                split, said = ("test", [test[video]]) if video in test else ("train", said)
            elif split not in _SPLITS:
                raise UsageError(f"{where}: split {split!r} is none of {', '.join(_SPLITS)}")
            category = entry.get("category")
            tags = () if category is None else (f"category/{_category(category, where)}",)
            yield AnnotatedClip(video, {"id": video}, tags, tuple(said), _SPLITS[split])


def _read(folder: Path) -> tuple[dict[str, tuple[dict[str, Any], str]], dict[str, list[str]]]:
    """The videos and the sentences of each, over all files; what one file repeats of another counts once."""
    videos: dict[str, tuple[dict[str, Any], str]] = {}
    captions: dict[str, dict[tuple[Any, str], None]] = {}
    for file in sorted(folder.glob("*.json")):
        content = read_json(file)
        if not isinstance(content, dict) or not {"videos", "sentences"} <= content.keys():
            continue
        for entry, where in entries(content["videos"], f"{file}, videos", video_id=str):
            videos.setdefault(plain_name(entry["video_id"], where), (entry, where))
        for entry, _ in entries(content["sentences"], f"{file}, sentences", video_id=str, caption=str):
            captions.setdefault(entry["video_id"], {})[entry.get("sen_id"), entry["caption"]] = None
    if not videos:
        raise UsageError(f"{folder}: no json file with videos and sentences, such as train_val_videodatainfo.json")
    return videos, {video: [text for _, text in said] for video, said in captions.items()}


def _split_1ka(folder: Path) -> tuple[dict[str, str], set[str] | None]:
    """Video -> sentence of the test split, and the videos of the training split if there is a list of them."""
    lines = csv_lines(folder / _TEST_1KA, ("video_id", "sentence"), True)
    test = {line.name(0): line.cells[1] for line in lines}
    if not (folder / _TRAIN_1KA).is_file():
        return test, None
    return test, {line.name(0) for line in csv_lines(folder / _TRAIN_1KA, ("video_id",), True)}


def _category(number: Any, where: str) -> str:
    if not isinstance(number, int) or not 0 <= number < len(_CATEGORIES):
        raise UsageError(f"{where}: category {number!r} is none of 0 to {len(_CATEGORIES) - 1}")
    return _CATEGORIES[number]
