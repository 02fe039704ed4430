"""Wrong annotations and missing media: the message names the file, the line and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from annotation_sets import (
    ALIGN,
    AUDIOSET_EVAL,
    AVE_HEAD,
    KINETICS,
    MSRVTT,
    ONTOLOGY,
    VGGSOUND,
    put,
    source,
)

from mmattn.errors import UsageError

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
    root = put(tmp_path, {"media.mp4": None, **files})
    with pytest.raises(UsageError, match=says) as error:
        source(name, root, *overrides).find()
    assert "\n" not in str(error.value)


def test_no_media_at_all_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no media of VGGSound's 3 clips; the first, ---g-f_I2yQ_000001, would be"):
        source("vggsound", put(tmp_path, {"vggsound.csv": VGGSOUND})).rows()


def test_some_missing_are_said_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = put(tmp_path, {"vggsound.csv": VGGSOUND, "--0PQM4-hqg_000030.mp4": None})
    assert len(source("vggsound", root).rows()) == 1
    assert "VGGSound: 2 of 3 clips have no media, such as ---g-f_I2yQ_000001" in capsys.readouterr().err
