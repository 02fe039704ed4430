"""Each public data set from a few lines of its annotation files, in the format in which they are published."""

from __future__ import annotations

from pathlib import Path

import pytest
from annotation_sets import (
    ALIGN,
    AUDIOCAPS,
    AUDIOCAPS_TEST,
    AUDIOSET,
    AUDIOSET_EVAL,
    AUDIOSET_LABELS,
    AVE_HEAD,
    AVE_ROWS,
    COCO,
    JSFUSION,
    KINETICS,
    MSRVTT,
    ONTOLOGY,
    SET_VIDEOS,
    VATEX,
    VGGSOUND,
    put,
    row_of,
    source,
)

from mmattn.config.compose import compose, conf_dir
from mmattn.data.manifest.columns import LabelledSegment
from mmattn.data.manifest.rows import Row
from mmattn.errors import UsageError


def test_audioset(tmp_path: Path) -> None:
    root = put(
        tmp_path,
        {
            "balanced_train_segments.csv": AUDIOSET,
            "eval_segments.csv": AUDIOSET_EVAL,
            "class_labels_indices.csv": AUDIOSET_LABELS,
            "ontology.json": ONTOLOGY,
            "train/--PJHxphWEs_30000_40000.mp4": None,  # a cut clip, in ms
            "train/--4gqARaEJE.mp4": None,  # a whole video
            "eval/Y-0RWZT-miFs.wav": None,
        },
    )
    (cut, whole, other), missing = source("audioset", root, "data.source.val_fraction=0").find()
    assert not missing
    assert (cut.tags, cut.start, cut.end, cut.split) == (("Speech", "Gush"), 0.0, None, "train")
    assert (whole.tags, whole.start, whole.end) == (("Domestic animals, pets", "Dog"), 0.0, 10.0)
    assert (other.id, other.split, other.start, other.end) == ("-0RWZT-miFs_420", "test", 420.0, 430.0)
    above = row_of("audioset", root, "eval/Y-0RWZT-miFs.wav", "data.source.ancestors=true", "data.source.cut=true")
    assert above.tags == ("Dog", "Domestic animals, pets", "Animal")
    assert (above.start, above.end) == (0.0, None), "cut=true: the file is the clip"


def test_vggsound(tmp_path: Path) -> None:
    root = put(tmp_path, {"vggsound.csv": VGGSOUND, "video/--0PQM4-hqg_000030.mp4": None, "---g-f_I2yQ.webm": None})
    (test, train), missing = source("vggsound", root, "data.source.val_fraction=0").find()
    assert train == Row(
        "--0PQM4-hqg_000030", root / "video/--0PQM4-hqg_000030.mp4", tags=("waterfall burbling",), split="train"
    )
    assert (test.tags, test.split, test.start, test.end) == (("people marching",), "test", 1.0, 11.0)
    assert [each.id for each in missing] == ["--5OkAjCI7g_000040"]
    assert missing[0].looked_for[0] == "--5OkAjCI7g_000040"


def test_kinetics_and_kinetics_sounds(tmp_path: Path) -> None:
    root = put(
        tmp_path,
        {
            "annotations/train.csv": KINETICS,
            "annotations/other.csv": "a,b\n1,2\n",
            "train/bowling/-3B32lodO2M_000059_000069.mp4": None,
            "train/abseiling/_4YTwq0-73Y_000020_000030.mp4": None,
            "val/tap dancing/-2VXhGGeOWg_000000_000010.mp4": None,
        },
    )
    rows, _ = source("kinetics", root, f"data.source.annotations={root / 'annotations'}").find()
    assert [(row.tags, row.split) for row in rows] == [
        (("bowling",), "train"),
        (("tap dancing",), "val"),
        (("abseiling",), "train"),
    ]
    with pytest.raises(UsageError, match=r"names 'blowing nose', which no line has"):
        source("kinetics_sounds", root).find()
    config = compose("data_manifest", ["data=kinetics_sounds", f"data.root={root}", "out=m.jsonl"])
    classes = config["data"]["source"]["classes"]
    assert len(classes) == len(set(classes)) == 31
    others = [label for label in classes if label not in ("bowling", "tap dancing")]
    (root / "annotations/all.csv").write_text(
        "label,youtube_id,time_start,time_end,split\n"
        + "".join(f"{label},{number:011d},0,10,train\n" for number, label in enumerate(others))
    )
    rows, missing = source("kinetics_sounds", root).find()
    assert {row.tags[0] for row in rows} == {"bowling", "tap dancing"}
    assert len(missing) == 29, "abseiling is not among them"


def test_ave_makes_one_clip_of_a_videos_events(tmp_path: Path) -> None:
    root = put(
        tmp_path,
        {
            "Annotations.txt": AVE_HEAD + "\n".join(AVE_ROWS) + "\n",
            "trainSet.txt": "\n".join(AVE_ROWS[:3]) + "\n",
            "valSet.txt": AVE_ROWS[4] + "\n",
            "testSet.txt": AVE_ROWS[3] + "\n",
            **{f"AVE/{video}.mp4": None for video in ("RUhOCu3LNXM", "---1_cCGK4M", "-0Kbt-hKkPE", "zzBarkEmpty")},
        },
    )
    rows = {row.id: row for row in source("ave", root).find()[0]}
    assert rows["RUhOCu3LNXM"].segments == (LabelledSegment("Church bell", 0.0, 10.0),)
    two = rows["-0Kbt-hKkPE"]
    assert two.tags == ("Bark", "Male speech, man speaking")
    assert two.segments == (LabelledSegment("Bark", 3.0, 6.0), LabelledSegment("Male speech, man speaking", 7.0, 9.0))
    assert two.split == "test", "in the training and in the test set: no test clip is trained on"
    assert (rows["zzBarkEmpty"].tags, rows["zzBarkEmpty"].segments) == (("Bark",), ())


def test_crema_d_is_split_by_actor(tmp_path: Path) -> None:
    names = [f"{actor}_DFA_{emotion}_XX" for actor in range(1001, 1092) for emotion in ("ANG", "NEU")]
    root = put(tmp_path, {f"VideoFlash/{name}.flv": None for name in names} | {"AudioWAV/1001_DFA_ANG_XX.wav": None})
    rows, _ = source("crema_d", root).find()
    first = next(row for row in rows if row.id == "1001_DFA_ANG_XX")
    assert (first.tags, first.captions) == (("anger",), ("Don't forget a jacket",))
    assert first.path.suffix == ".flv", "the video, not the sound drawn from it"
    actors = {split: {row.id[:4] for row in rows if row.split == split} for split in ("train", "val", "test")}
    assert {split: len(each) for split, each in actors.items()} == {"train": 63, "val": 9, "test": 19}
    # as TensorFlow Datasets' crema_d draws them
    assert actors["val"] == {"1015", "1020", "1021", "1030", "1050", "1070", "1079", "1089", "1090"}
    assert not actors["train"] & actors["test"]


def test_grid_has_the_time_of_every_word(tmp_path: Path) -> None:
    root = put(
        tmp_path,
        {
            "alignments/s1/bbaf2n.align": ALIGN,
            "alignments/s3/bbaf2n.align": ALIGN.replace("two", "nine"),
            "s1/bbaf2n.mpg": None,
            "s3/video/mpg_6000/bbaf2n.mpg": None,
        },
    )
    first, third = source("grid", root, "data.source.val_fraction=0").find()[0]
    assert (first.id, first.split, first.path) == ("s1_bbaf2n", "test", root / "s1/bbaf2n.mpg")
    assert first.captions == ("bin blue at f two now",)
    assert first.tags == ("command/bin", "colour/blue", "preposition/at", "letter/f", "digit/two", "adverb/now")
    assert first.segments[0] == LabelledSegment("bin", 0.95, 1.18)
    assert first.segments[-1] == LabelledSegment("now", 1.89, 2.12)
    assert (third.split, third.tags[4]) == ("train", "digit/nine"), "the same name, another speaker"


def test_msrvtt_2016(tmp_path: Path) -> None:
    media = {f"videos/all/{video}.mp4": None for video in ("video0", "video1", "video9770")}
    root = put(tmp_path, {"train_val_videodatainfo.json": MSRVTT, "again.json": MSRVTT, **media})
    train, val, test = source("msrvtt", root).find()[0]
    assert train.captions == ("a car is shown", "a car is shown"), "two people said the same; two files do not"
    assert train.tags == ("category/vehicles/autos",)
    assert [row.split for row in (train, val, test)] == ["train", "val", "test"]


def test_msrvtt_1ka(tmp_path: Path) -> None:
    media = {f"{video}.mp4": None for video in ("video0", "video1", "video9770")}
    root = put(tmp_path, {"MSRVTT_data.json": MSRVTT, "MSRVTT_JSFUSION_test.csv": JSFUSION, **media})
    overrides = ["data.source.protocol=1k-A", "data.source.val_fraction=0"]
    rows, _ = source("msrvtt", root, *overrides).find()
    assert [row.split for row in rows] == ["train", "train", "test"]
    assert rows[2].captions == ("a person is connecting something to system",)
    (root / "MSRVTT_train.9k.csv").write_text("video_id\nvideo1\n")
    assert [row.id for row in source("msrvtt", root, *overrides).find()[0]] == ["video1", "video9770"]


@pytest.mark.parametrize(("language", "captions"), [("en", 2), ("zh", 1), ("both", 3)])
def test_vatex(language: str, captions: int, tmp_path: Path) -> None:
    private = [{"videoID": "G9zN5TTuGO4_000179_000189"}]
    root = put(
        tmp_path,
        {
            "vatex_training_v1.0.json": VATEX,
            "vatex_private_test_without_annotations.json": private,
            "Ptf_2VRj-V0_000122_000132.mp4": None,
            "whole/G9zN5TTuGO4.mkv": None,
        },
    )
    overrides = [f"data.source.language={language}", "data.source.val_fraction=0"]
    rows = {row.split: row for row in source("vatex", root, *overrides).find()[0]}
    train = rows["train"]
    assert (len(train.captions), train.start, train.end) == (captions, 0.0, None)
    assert (rows["test"].captions, rows["test"].start, rows["test"].end) == ((), 179.0, 189.0)


def test_audiocaps_makes_one_clip_of_five_captions(tmp_path: Path) -> None:
    root = put(
        tmp_path,
        {"train.csv": AUDIOCAPS, "test.csv": AUDIOCAPS_TEST, "r1nicOVtvkQ_130.wav": None, "YvfY_TJq7n_U.flac": None},
    )
    train, test = source("audiocaps", root, "data.source.val_fraction=0").find()[0]
    assert train.captions == ("A woman talks nearby as water pours",)
    assert (train.start, train.end) == (0.0, None)
    assert test.captions == (
        "Rustling occurs, ducks quack and water splashes",
        'An adult female speaks as a "ding" is heard',
    )
    assert (test.split, test.start, test.end) == ("test", 130.0, 140.0)


def test_coco_images_and_videos(tmp_path: Path) -> None:
    root = put(
        tmp_path,
        {
            "annotations/val.json": COCO,
            "annotations/train.json": SET_VIDEOS,
            "val2014/COCO_val2014_000000391895.jpg": None,
            "deep/train/talk.mp4": None,
            "deep/test/talk.mp4": None,
        },
    )
    files = ["data.source.files.train=annotations/train.json", "data.source.files.val=annotations/val.json"]
    train, val = source("coco", root, *files).find()[0]
    assert (train.path, train.captions) == (root / "deep/train/talk.mp4", ("A talk.",))
    assert val.captions == (COCO["annotations"][0]["caption"], COCO["annotations"][1]["caption"])
    assert (val.tags, val.split) == (("motorcycle",), "val")


def test_clips_of_one_video_are_held_out_together(tmp_path: Path) -> None:
    lines = [f"v{video:04d},{start},x,train" for video in range(200) for start in (0, 10, 20)]
    root = put(tmp_path, {"vggsound.csv": "\n".join(lines), **{f"v{video:04d}.mp4": None for video in range(200)}})
    rows = source("vggsound", root, "data.source.val_fraction=0.2").rows()
    splits: dict[str, set[str | None]] = {}
    for row in rows:
        splits.setdefault(row.id[:5], set()).add(row.split)
    assert all(len(each) == 1 for each in splits.values())
    assert 20 < sum(each == {"val"} for each in splits.values()) < 60


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    store = tmp_path / "store"
    root = put(tmp_path / "root", {"vggsound.csv": VGGSOUND})
    put(store, {"deep/--0PQM4-hqg_000030.mp4": None})
    (root / "videos").symlink_to(store)
    (store / "deep/back").symlink_to(store)
    (row,) = source("vggsound", root).rows()
    assert row.path.is_file()


def test_every_adapter_has_a_config_of_its_own_values() -> None:
    """What the yaml files list are the classes' own defaults, so that Python and the command line agree."""
    adapters = [path for path in (conf_dir() / "data").glob("*.yaml") if "manifest.adapters." in path.read_text()]
    assert len(adapters) == 11
    for path in adapters:
        made = source(path.stem, Path("r"), *(["data.source.files.val=x"] if path.stem == "coco" else []))
        given = {"root": "r", **({"files": made.files} if path.stem == "coco" else {})}  # type: ignore[attr-defined]
        plain = type(made)(**given)
        differing = [
            name
            for name in plain.__dataclass_fields__
            if _plain(getattr(plain, name)) != _plain(getattr(made, name)) and name != "classes"
        ]
        assert not differing, path.stem


def _plain(value: object) -> object:
    return list(value) if isinstance(value, (tuple, list)) else value
