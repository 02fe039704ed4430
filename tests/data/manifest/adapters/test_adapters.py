"""Each public data set from a few lines of its annotation files, in the format in which they are published."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from mmattn.config.compose import build, compose, conf_dir
from mmattn.data.manifest.adapters.annotated import AnnotatedSource
from mmattn.data.manifest.columns import LabelledSegment
from mmattn.data.manifest.rows import Row
from mmattn.errors import UsageError

AUDIOSET = """# Segments csv created Sun Mar  5 10:54:31 2017
# num_ytids=22160, num_segs=22160, num_unique_labels=527, num_positive_labels=52882
# YTID, start_seconds, end_seconds, positive_labels
--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"
--4gqARaEJE, 0.000, 10.000, "/m/068hy,/m/0bt9lr"
"""
AUDIOSET_EVAL = AUDIOSET.splitlines(keepends=True)[:3]
AUDIOSET_EVAL = "".join(AUDIOSET_EVAL) + '-0RWZT-miFs, 420.000, 430.000, "/m/0bt9lr"\n'
AUDIOSET_LABELS = """index,mid,display_name
0,/m/09x0r,"Speech"
1,/m/068hy,"Domestic animals, pets"
2,/m/0bt9lr,"Dog"
451,/t/dd00088,"Gush"
"""
ONTOLOGY = [
    {"id": "/m/0jbk", "name": "Animal", "description": "…", "citation_uri": "", "positive_examples": [],
     "child_ids": ["/m/068hy"], "restrictions": ["abstract"]},
    {"id": "/m/068hy", "name": "Domestic animals, pets", "child_ids": ["/m/0bt9lr"], "restrictions": []},
    {"id": "/m/0bt9lr", "name": "Dog", "child_ids": [], "restrictions": []},
    {"id": "/m/09x0r", "name": "Speech", "child_ids": [], "restrictions": []},
    {"id": "/t/dd00088", "name": "Gush", "child_ids": [], "restrictions": []},
]  # fmt: skip
VGGSOUND = """---g-f_I2yQ,1,people marching,test
--0PQM4-hqg,30,waterfall burbling,train
--5OkAjCI7g,40,"female speech, woman speaking",train
"""
KINETICS = """label,youtube_id,time_start,time_end,split,is_cc
bowling,-3B32lodO2M,59,69,train,0
"tap dancing",-2VXhGGeOWg,0,10,validate,0
abseiling,_4YTwq0-73Y,20,30,train,1
"""
AVE_HEAD = "Category&VideoID&Quality&StartTime&EndTime\n"
AVE_ROWS = [
    "Church bell&RUhOCu3LNXM&good&0&10",
    "Male speech, man speaking&---1_cCGK4M&good&0&1",
    "Bark&-0Kbt-hKkPE&good&3&6",
    "Male speech, man speaking&-0Kbt-hKkPE&good&7&9",
    "Bark&zzBarkEmpty&good&0&0",
]
ALIGN = """0 23750 sil
23750 29500 bin
29500 34000 blue
34000 35500 at
35500 41000 f
41000 47250 two
47250 53000 now
53000 74500 sil
"""
MSRVTT = {
    "info": {"contributor": "Microsoft MSM group", "data_created": "2016-04-14 14:30:20", "version": "1.0"},
    "videos": [
        {"category": 9, "url": "https://www.youtube.com/watch?v=9lZi22qLlEo", "video_id": "video0",
         "start time": 137.72, "end time": 149.44, "split": "train", "id": 0},
        {"category": 16, "url": "https://www.youtube.com/watch?v=w4JM08PDEng", "video_id": "video1",
         "start time": 184.33, "end time": 206.89, "split": "validate", "id": 1},
        {"category": 0, "url": "https://www.youtube.com/watch?v=QA7KVQq9vKA", "video_id": "video9770",
         "start time": 31.17, "end time": 46.02, "split": "test", "id": 9770},
    ],
    "sentences": [
        {"caption": "a car is shown", "video_id": "video0", "sen_id": 0},
        {"caption": "a car is shown", "video_id": "video0", "sen_id": 1},
        {"caption": "in a kitchen a woman adds different ingredients", "video_id": "video1", "sen_id": 20},
        {"caption": "a man plugs something in", "video_id": "video9770", "sen_id": 195400},
    ],
}  # fmt: skip
JSFUSION = """key,vid_key,video_id,sentence
ret0,msr9770,video9770,a person is connecting something to system
"""
VATEX = [
    {
        "videoID": "Ptf_2VRj-V0_000122_000132",
        "enCap": ["A person wearing a bear costume.", "Someone in a bear suit climbs."],
        "chCap": ["一个人穿着熊的衣服。"],
    }
]
AUDIOCAPS = """audiocap_id,youtube_id,start_time,caption
91139,r1nicOVtvkQ,130,A woman talks nearby as water pours
"""
AUDIOCAPS_TEST = """audiocap_id,youtube_id,start_time,caption
97151,vfY_TJq7n_U,130,"Rustling occurs, ducks quack and water splashes"
97152,vfY_TJq7n_U,130,"An adult female speaks as a ""ding"" is heard"
"""
COCO = {
    "info": {"year": 2014},
    "images": [{"id": 391895, "file_name": "COCO_val2014_000000391895.jpg", "height": 360, "width": 640}],
    "annotations": [
        {"id": 770337, "image_id": 391895, "caption": "A man with a red helmet on a small moped."},
        {"id": 771687, "image_id": 391895, "caption": "Man riding a motor bike on a dirt road."},
        {"id": 1, "image_id": 391895, "category_id": 4, "bbox": [0, 0, 1, 1]},
    ],
    "categories": [{"supercategory": "vehicle", "id": 4, "name": "motorcycle"}],
}
SET_VIDEOS = {
    "videos": [{"id": 7, "file_name": "train/talk.mp4"}],
    "annotations": [{"id": 1, "video_id": 7, "caption": "A talk."}],
}


def _put(root: Path, files: dict[str, str | dict | list | None]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "" if content is None else content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8")
    return root


def _source(name: str, root: Path, *overrides: str) -> AnnotatedSource:
    """As a config makes it."""
    config = compose("data_manifest", [f"data={name}", f"data.root={root}", "out=m.jsonl", *overrides])
    return build(config["data"]["source"])


def _row(name: str, root: Path, path: str, *overrides: str) -> Row:
    rows = {row.id: row for row in _source(name, root, *overrides).find()[0]}
    return next(row for row in rows.values() if row.path == root / path)


def test_audioset(tmp_path: Path) -> None:
    root = _put(
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
    (cut, whole, other), missing = _source("audioset", root, "data.source.val_fraction=0").find()
    assert not missing
    assert (cut.tags, cut.start, cut.end, cut.split) == (("Speech", "Gush"), 0.0, None, "train")
    assert (whole.tags, whole.start, whole.end) == (("Domestic animals, pets", "Dog"), 0.0, 10.0)
    assert (other.id, other.split, other.start, other.end) == ("-0RWZT-miFs_420", "test", 420.0, 430.0)
    above = _row("audioset", root, "eval/Y-0RWZT-miFs.wav", "data.source.ancestors=true", "data.source.cut=true")
    assert above.tags == ("Dog", "Domestic animals, pets", "Animal")
    assert (above.start, above.end) == (0.0, None), "cut=true: the file is the clip"


def test_vggsound(tmp_path: Path) -> None:
    root = _put(tmp_path, {"vggsound.csv": VGGSOUND, "video/--0PQM4-hqg_000030.mp4": None, "---g-f_I2yQ.webm": None})
    (test, train), missing = _source("vggsound", root, "data.source.val_fraction=0").find()
    assert train == Row(
        "--0PQM4-hqg_000030", root / "video/--0PQM4-hqg_000030.mp4", tags=("waterfall burbling",), split="train"
    )
    assert (test.tags, test.split, test.start, test.end) == (("people marching",), "test", 1.0, 11.0)
    assert [each.id for each in missing] == ["--5OkAjCI7g_000040"]
    assert missing[0].looked_for[0] == "--5OkAjCI7g_000040"


def test_kinetics_and_kinetics_sounds(tmp_path: Path) -> None:
    root = _put(
        tmp_path,
        {
            "annotations/train.csv": KINETICS,
            "annotations/other.csv": "a,b\n1,2\n",
            "train/bowling/-3B32lodO2M_000059_000069.mp4": None,
            "train/abseiling/_4YTwq0-73Y_000020_000030.mp4": None,
            "val/tap dancing/-2VXhGGeOWg_000000_000010.mp4": None,
        },
    )
    rows, _ = _source("kinetics", root, f"data.source.annotations={root / 'annotations'}").find()
    assert [(row.tags, row.split) for row in rows] == [
        (("bowling",), "train"),
        (("tap dancing",), "val"),
        (("abseiling",), "train"),
    ]
    with pytest.raises(UsageError, match=r"names 'blowing nose', which no line has"):
        _source("kinetics_sounds", root).find()
    config = compose("data_manifest", ["data=kinetics_sounds", f"data.root={root}", "out=m.jsonl"])
    classes = config["data"]["source"]["classes"]
    assert len(classes) == len(set(classes)) == 31
    others = [label for label in classes if label not in ("bowling", "tap dancing")]
    (root / "annotations/all.csv").write_text(
        "label,youtube_id,time_start,time_end,split\n"
        + "".join(f"{label},{number:011d},0,10,train\n" for number, label in enumerate(others))
    )
    rows, missing = _source("kinetics_sounds", root).find()
    assert {row.tags[0] for row in rows} == {"bowling", "tap dancing"}
    assert len(missing) == 29, "abseiling is not among them"


def test_ave_makes_one_clip_of_a_videos_events(tmp_path: Path) -> None:
    root = _put(
        tmp_path,
        {
            "Annotations.txt": AVE_HEAD + "\n".join(AVE_ROWS) + "\n",
            "trainSet.txt": "\n".join(AVE_ROWS[:3]) + "\n",
            "valSet.txt": AVE_ROWS[4] + "\n",
            "testSet.txt": AVE_ROWS[3] + "\n",
            **{f"AVE/{video}.mp4": None for video in ("RUhOCu3LNXM", "---1_cCGK4M", "-0Kbt-hKkPE", "zzBarkEmpty")},
        },
    )
    rows = {row.id: row for row in _source("ave", root).find()[0]}
    assert rows["RUhOCu3LNXM"].segments == (LabelledSegment("Church bell", 0.0, 10.0),)
    two = rows["-0Kbt-hKkPE"]
    assert two.tags == ("Bark", "Male speech, man speaking")
    assert two.segments == (LabelledSegment("Bark", 3.0, 6.0), LabelledSegment("Male speech, man speaking", 7.0, 9.0))
    assert two.split == "test", "in the training and in the test set: no test clip is trained on"
    assert (rows["zzBarkEmpty"].tags, rows["zzBarkEmpty"].segments) == (("Bark",), ())


def test_crema_d_is_split_by_actor(tmp_path: Path) -> None:
    names = [f"{actor}_DFA_{emotion}_XX" for actor in range(1001, 1092) for emotion in ("ANG", "NEU")]
    root = _put(tmp_path, {f"VideoFlash/{name}.flv": None for name in names} | {"AudioWAV/1001_DFA_ANG_XX.wav": None})
    rows, _ = _source("crema_d", root).find()
    first = next(row for row in rows if row.id == "1001_DFA_ANG_XX")
    assert (first.tags, first.captions) == (("anger",), ("Don't forget a jacket",))
    assert first.path.suffix == ".flv", "the video, not the sound drawn from it"
    actors = {split: {row.id[:4] for row in rows if row.split == split} for split in ("train", "val", "test")}
    assert {split: len(each) for split, each in actors.items()} == {"train": 63, "val": 9, "test": 19}
    # as TensorFlow Datasets' crema_d draws them
    assert actors["val"] == {"1015", "1020", "1021", "1030", "1050", "1070", "1079", "1089", "1090"}
    assert not actors["train"] & actors["test"]


def test_grid_has_the_time_of_every_word(tmp_path: Path) -> None:
    root = _put(
        tmp_path,
        {
            "alignments/s1/bbaf2n.align": ALIGN,
            "alignments/s3/bbaf2n.align": ALIGN.replace("two", "nine"),
            "s1/bbaf2n.mpg": None,
            "s3/video/mpg_6000/bbaf2n.mpg": None,
        },
    )
    first, third = _source("grid", root, "data.source.val_fraction=0").find()[0]
    assert (first.id, first.split, first.path) == ("s1_bbaf2n", "test", root / "s1/bbaf2n.mpg")
    assert first.captions == ("bin blue at f two now",)
    assert first.tags == ("command/bin", "colour/blue", "preposition/at", "letter/f", "digit/two", "adverb/now")
    assert first.segments[0] == LabelledSegment("bin", 0.95, 1.18)
    assert first.segments[-1] == LabelledSegment("now", 1.89, 2.12)
    assert (third.split, third.tags[4]) == ("train", "digit/nine"), "the same name, another speaker"


def test_msrvtt_2016(tmp_path: Path) -> None:
    media = {f"videos/all/{video}.mp4": None for video in ("video0", "video1", "video9770")}
    root = _put(tmp_path, {"train_val_videodatainfo.json": MSRVTT, "again.json": MSRVTT, **media})
    train, val, test = _source("msrvtt", root).find()[0]
    assert train.captions == ("a car is shown", "a car is shown"), "two people said the same; two files do not"
    assert train.tags == ("category/vehicles/autos",)
    assert [row.split for row in (train, val, test)] == ["train", "val", "test"]


def test_msrvtt_1ka(tmp_path: Path) -> None:
    media = {f"{video}.mp4": None for video in ("video0", "video1", "video9770")}
    root = _put(tmp_path, {"MSRVTT_data.json": MSRVTT, "MSRVTT_JSFUSION_test.csv": JSFUSION, **media})
    overrides = ["data.source.protocol=1k-A", "data.source.val_fraction=0"]
    rows, _ = _source("msrvtt", root, *overrides).find()
    assert [row.split for row in rows] == ["train", "train", "test"]
    assert rows[2].captions == ("a person is connecting something to system",)
    (root / "MSRVTT_train.9k.csv").write_text("video_id\nvideo1\n")
    assert [row.id for row in _source("msrvtt", root, *overrides).find()[0]] == ["video1", "video9770"]


@pytest.mark.parametrize(("language", "captions"), [("en", 2), ("zh", 1), ("both", 3)])
def test_vatex(language: str, captions: int, tmp_path: Path) -> None:
    private = [{"videoID": "G9zN5TTuGO4_000179_000189"}]
    root = _put(
        tmp_path,
        {
            "vatex_training_v1.0.json": VATEX,
            "vatex_private_test_without_annotations.json": private,
            "Ptf_2VRj-V0_000122_000132.mp4": None,
            "whole/G9zN5TTuGO4.mkv": None,
        },
    )
    overrides = [f"data.source.language={language}", "data.source.val_fraction=0"]
    rows = {row.split: row for row in _source("vatex", root, *overrides).find()[0]}
    train = rows["train"]
    assert (len(train.captions), train.start, train.end) == (captions, 0.0, None)
    assert (rows["test"].captions, rows["test"].start, rows["test"].end) == ((), 179.0, 189.0)


def test_audiocaps_makes_one_clip_of_five_captions(tmp_path: Path) -> None:
    root = _put(
        tmp_path,
        {"train.csv": AUDIOCAPS, "test.csv": AUDIOCAPS_TEST, "r1nicOVtvkQ_130.wav": None, "YvfY_TJq7n_U.flac": None},
    )
    train, test = _source("audiocaps", root, "data.source.val_fraction=0").find()[0]
    assert train.captions == ("A woman talks nearby as water pours",)
    assert (train.start, train.end) == (0.0, None)
    assert test.captions == (
        "Rustling occurs, ducks quack and water splashes",
        'An adult female speaks as a "ding" is heard',
    )
    assert (test.split, test.start, test.end) == ("test", 130.0, 140.0)


def test_coco_images_and_videos(tmp_path: Path) -> None:
    root = _put(
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
    train, val = _source("coco", root, *files).find()[0]
    assert (train.path, train.captions) == (root / "deep/train/talk.mp4", ("A talk.",))
    assert val.captions == (COCO["annotations"][0]["caption"], COCO["annotations"][1]["caption"])
    assert (val.tags, val.split) == (("motorcycle",), "val")


FAULTS: list[tuple[str, dict[str, str | dict | list | None], Sequence[str], str]] = [
    ("vggsound", {"vggsound.csv": "a,1,x,train\nb,1,x\n"}, [], r"vggsound\.csv, line 2: 3 cells, expected 4"),
    ("vggsound", {"vggsound.csv": "a,1,x,train\nb,soon,x,train\n"}, [], r"line 2: 'soon' is not a number"),
    ("vggsound", {"vggsound.csv": "a,1,x,dev\n"}, [], r"line 1: split 'dev'"),
    (
        "vggsound",
        {"vggsound.csv": "../../etc/passwd,1,x,train\n"},
        [],
        r"line 1: '\.\./\.\./etc/passwd' is not a valid id",
    ),
    ("vggsound", {"vggsound.csv": "/etc/passwd,1,x,train\n"}, [], r"line 1: '/etc/passwd' is not a valid id"),
    ("vggsound", {"vggsound.csv": "a,1,x,train\na,1,y,test\n"}, [], r"has the clip 'a_000001' more than once"),
    ("vggsound", {"vggsound.csv": ""}, [], "name no clip"),
    ("vggsound", {"vggsound.csv": 'a,1,"x,train\n'}, [], r"vggsound\.csv, line 1: unexpected end"),
    ("vggsound", {}, [], r"vggsound\.csv: cannot be read"),
    ("vggsound", {"vggsound.csv": VGGSOUND}, ["data.source.media=['{title}']"], r"knows no \{title\}; it knows \{id\}"),
    ("vggsound", {"vggsound.csv": VGGSOUND}, ["data.source.media=['{id.__class__}']"], "knows no"),
    ("vggsound", {"vggsound.csv": VGGSOUND}, ["data.source.media=['{id']"], "media name"),
    ("vggsound", {"vggsound.csv": VGGSOUND}, ["data.source.media=['{id:06d}']"], "media name"),
    ("audioset", {}, [], "none of balanced_train_segments.csv"),
    ("audioset", {"eval_segments.csv": AUDIOSET_EVAL}, [], "neither class_labels_indices.csv nor ontology.json"),
    (
        "audioset",
        {"eval_segments.csv": AUDIOSET_EVAL + 'x, 5.0, 4.0, "/m/0bt9lr"\n', "ontology.json": ONTOLOGY},
        [],
        r"eval_segments\.csv, line 5: end 4\.0 s is not after start",
    ),
    (
        "audioset",
        {"eval_segments.csv": AUDIOSET_EVAL + 'x, 5.0, 9.0, "/m/none"\n', "ontology.json": ONTOLOGY},
        [],
        r"line 5: label '/m/none' is in none of",
    ),
    ("kinetics", {"x.csv": "label,id\na,b\n"}, [], "no csv file with the columns label"),
    ("kinetics", {"x.csv": KINETICS + "bowling,x,9,3,train,0\n"}, [], r"line 5: end 3\.0 s is not after"),
    ("ave", {"Annotations.txt": AVE_HEAD}, [], r"trainSet\.txt: cannot be read"),
    ("crema_d", {"1001_DFA_ANG.mp4": None}, [], "no file is called as CREMA-D's"),
    ("crema_d", {"1999_DFA_ANG_XX.mp4": None}, [], "has no actor 1999"),
    ("grid", {}, [], r"no \.align files"),
    ("grid", {"s1/x.align": "0 100 bin\n"}, [], r"x\.align: 1 word, expected the 6"),
    ("grid", {"s1/x.align": "0 100\n"}, [], r"x\.align, line 1: 2 parts, expected 3"),
    ("grid", {"s1/x.align": "9 1 bin\n"}, [], r"line 1: the word ends before it starts"),
    ("grid", {"x.align": ALIGN}, [], "in no folder of a speaker"),
    ("msrvtt", {"x.json": "{"}, [], r"x\.json, line 1: not JSON"),
    ("msrvtt", {"x.json": [1]}, [], "no json file with videos and sentences"),
    ("msrvtt", {"x.json": {"videos": [{"id": 3}], "sentences": []}}, [], r"videos, entry 1: video_id is None"),
    ("msrvtt", {"x.json": MSRVTT}, ["data.source.protocol=1kA"], "expected 2016 or 1k-A"),
    ("vatex", {"vatex_training.json": [{"videoID": "abc"}]}, [], r"entry 1: videoID 'abc' is not id_start_end"),
    ("vatex", {"vatex_training.json": [{"videoID": "a/b_1_2"}]}, [], r"entry 1: 'a/b_1_2' is not a valid id"),
    ("vatex", {"vatex_training.json": {"a": 1}}, [], "expected a list, found dict"),
    ("audiocaps", {}, [], "none of train.csv"),
    ("audiocaps", {"train.csv": "id,caption\n1,x\n"}, [], r"line 1: no column 'audiocap_id'; found id, caption"),
    ("coco", {}, [], "names no file"),
    ("coco", {"x.json": {"a": 1}}, ["data.source.files.train=x.json"], "neither 'images' nor 'videos'"),
    (
        "coco",
        {"x.json": {"images": [{"id": 1, "file_name": "../../etc/shadow.jpg"}]}},
        ["data.source.files.train=x.json"],
        r"images, entry 1: '\.\.' is not a valid id",
    ),
    (
        "coco",
        {"x.json": {"images": [{"id": 1, "file_name": "/etc/shadow.jpg"}]}},
        ["data.source.files.train=x.json"],
        "is absolute",
    ),
]


@pytest.mark.parametrize(("name", "files", "overrides", "says"), FAULTS, ids=lambda value: str(value)[:40])
def test_a_fault_names_file_and_line(
    name: str, files: dict, overrides: Sequence[str], says: str, tmp_path: Path
) -> None:
    root = _put(tmp_path, {"media.mp4": None, **files})
    with pytest.raises(UsageError, match=says) as error:
        _source(name, root, *overrides).find()
    assert "\n" not in str(error.value)


def test_no_media_at_all_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no media of VGGSound's 3 clips; the first, ---g-f_I2yQ_000001, would be"):
        _source("vggsound", _put(tmp_path, {"vggsound.csv": VGGSOUND})).rows()


def test_some_missing_are_said_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = _put(tmp_path, {"vggsound.csv": VGGSOUND, "--0PQM4-hqg_000030.mp4": None})
    assert len(_source("vggsound", root).rows()) == 1
    assert "VGGSound: 2 of 3 clips have no media, such as ---g-f_I2yQ_000001" in capsys.readouterr().err


def test_clips_of_one_video_are_held_out_together(tmp_path: Path) -> None:
    lines = [f"v{video:04d},{start},x,train" for video in range(200) for start in (0, 10, 20)]
    root = _put(tmp_path, {"vggsound.csv": "\n".join(lines), **{f"v{video:04d}.mp4": None for video in range(200)}})
    rows = _source("vggsound", root, "data.source.val_fraction=0.2").rows()
    splits: dict[str, set[str | None]] = {}
    for row in rows:
        splits.setdefault(row.id[:5], set()).add(row.split)
    assert all(len(each) == 1 for each in splits.values())
    assert 20 < sum(each == {"val"} for each in splits.values()) < 60


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    store = tmp_path / "store"
    root = _put(tmp_path / "root", {"vggsound.csv": VGGSOUND})
    _put(store, {"deep/--0PQM4-hqg_000030.mp4": None})
    (root / "videos").symlink_to(store)
    (store / "deep/back").symlink_to(store)
    (row,) = _source("vggsound", root).rows()
    assert row.path.is_file()


def test_every_adapter_has_a_config_of_its_own_values() -> None:
    """What the yaml files list are the classes' own defaults, so that Python and the command line agree."""
    adapters = [path for path in (conf_dir() / "data").glob("*.yaml") if "manifest.adapters." in path.read_text()]
    assert len(adapters) == 11
    for path in adapters:
        source = _source(path.stem, Path("r"), *(["data.source.files.val=x"] if path.stem == "coco" else []))
        given = {"root": "r", **({"files": source.files} if path.stem == "coco" else {})}  # type: ignore[attr-defined]
        plain = type(source)(**given)
        differing = [
            name
            for name in plain.__dataclass_fields__
            if _plain(getattr(plain, name)) != _plain(getattr(source, name)) and name != "classes"
        ]
        assert not differing, path.stem


def _plain(value: object) -> object:
    return list(value) if isinstance(value, (tuple, list)) else value
