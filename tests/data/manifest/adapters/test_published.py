"""Lines as they stand in the published annotation files, and in copies of them that go round."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmattn.data.manifest.adapters.audiocaps import AudioCapsSource
from mmattn.data.manifest.adapters.audioset import AudioSetSource
from mmattn.data.manifest.adapters.ave import AVESource
from mmattn.data.manifest.adapters.crema_d import CremaDSource
from mmattn.data.manifest.adapters.kinetics import KineticsSource
from mmattn.data.manifest.adapters.msrvtt import MSRVTTSource
from mmattn.data.manifest.adapters.vggsound import VGGSoundSource
from mmattn.errors import UsageError

# https://github.com/cdjkim/audiocaps, dataset/val.csv
AUDIOCAPS = """audiocap_id,youtube_id,start_time,caption
107912,wSV_hSdj0F0,10,"A horn honks twice and keys jingle, followed by an electronic beep"
108945,tdWhHV3X25Q,60,An audience gives applause as a man yells and a group sings
108643,tgbONvsP47Y,0,Roadway noise occurs and a truck accelerates
108103,tgbONvsP47Y,0,Vehicles pass by on a roadway
"""
# https://github.com/YapengTian/AVE-ECCV18, data/Annotations.txt: without a header there
AVE = """Church bell&RUhOCu3LNXM&good&0&10
Church bell&VWi2ENBuTbw&good&0&0
Male speech, man speaking&0-aEZiPFkzE&good&0&7
"""
# vggsound.csv
VGGSOUND = """---g-f_I2yQ,1,people marching,test
--9O4XZOge4,30,"female speech, woman speaking",train
--Lj4Y_96f0,120,"bee, wasp, etc. buzzing",train
-5o4C4ZtHSU,30,police car (siren),train
"""
# https://github.com/audioset/ontology; the segment files below are made after the published form
ONTOLOGY = [
    {"id": "/m/01v_m0", "name": "Sine wave", "description": "A continuous, pure tone of fixed pitch and amplitude.",
     "citation_uri": "http://en.wikipedia.org/wiki/Sine_wave",
     "positive_examples": ["youtu.be/0FOegaxNaqk?start=210&end=220"], "child_ids": ["/m/0b9m1"], "restrictions": []},
    {"id": "/m/0b9m1", "name": "Harmonic", "description": "…", "citation_uri": "", "positive_examples": [],
     "child_ids": [], "restrictions": ["blacklist"]},
]  # fmt: skip
# MSRVTT_JSFUSION_test.csv as one repository has it; the original has commas
MSRVTT_1KA = """key;vid_key;video_id;sentence
ret0;msr9770;video9770;a person is connecting something to system
ret1;msr9771;video9771;a little girl does gymnastics
"""
# A line of Kinetics-700 as tutorials quote it; test lists, here made up, have the same columns but the first
KINETICS = "label,youtube_id,time_start,time_end,split\ntestifying,---QUuC4vJs,84,94,validate\n"
KINETICS_TEST = "youtube_id,time_start,time_end,split\nsome_video,17,27,test\nother_video,0,10,test\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_audiocaps(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "val.csv").write_bytes(AUDIOCAPS.encode(encoding))
    clips = list(AudioCapsSource(root=str(tmp_path)).clips())
    assert [(clip.id, clip.span, len(clip.captions)) for clip in clips] == [
        ("wSV_hSdj0F0_10", (10.0, 20.0), 1),
        ("tdWhHV3X25Q_60", (60.0, 70.0), 1),
        ("tgbONvsP47Y_0", (0.0, 10.0), 2),
    ]


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_ave_without_a_header(tmp_path: Path, ends: str) -> None:
    for name in ("Annotations.txt", "trainSet.txt"):
        (tmp_path / name).write_bytes(AVE.replace("\n", ends).encode())
    for name in ("valSet.txt", "testSet.txt"):
        (tmp_path / name).touch()
    clips = list(AVESource(root=str(tmp_path)).clips())
    assert [(clip.id, clip.tags, len(clip.segments)) for clip in clips] == [
        ("RUhOCu3LNXM", ("Church bell",), 1),
        ("VWi2ENBuTbw", ("Church bell",), 0),
        ("0-aEZiPFkzE", ("Male speech, man speaking",), 1),
    ]


def test_vggsound(tmp_path: Path) -> None:
    (tmp_path / "vggsound.csv").write_text(VGGSOUND)
    clips = list(VGGSoundSource(root=str(tmp_path)).clips())
    assert [clip.tags[0] for clip in clips] == [
        "people marching", "female speech, woman speaking", "bee, wasp, etc. buzzing", "police car (siren)",
    ]  # fmt: skip
    assert clips[2].span == (120.0, 130.0)


def test_audioset_with_the_ontology_alone(tmp_path: Path) -> None:
    (tmp_path / "ontology.json").write_text(json.dumps(ONTOLOGY))
    (tmp_path / "eval_segments.csv").write_text(
        "# Segments csv created Sun Mar  5 10:54:25 2017\n# num_ytids=20371, num_segs=20371\n"
        '# YTID, start_seconds, end_seconds, positive_labels\n-0BIyqJj9ZU, 30.000, 40.000, "/m/0b9m1"\n'
    )
    (clip,) = AudioSetSource(root=str(tmp_path), ancestors=True).clips()
    assert (clip.tags, clip.split, clip.span) == (("Harmonic", "Sine wave"), "test", (30.0, 40.0))


def test_an_audioset_file_that_a_spreadsheet_saved_is_refused_by_line(tmp_path: Path) -> None:
    """It has lost the ids that begin with a minus (#NAME?) and its labels are in cells of their own."""
    (tmp_path / "ontology.json").write_text(json.dumps(ONTOLOGY))
    (tmp_path / "eval_segments.csv").write_text(
        "# YTID, start_seconds, end_seconds, positive_labels,,,,,,,,,,\n"
        '--4gqARaEJE,0,10," ""/m/068hy",/m/07q6cd_,/m/0bt9lr,"/m/0jbk""",,,,,,,\n'
    )
    with pytest.raises(UsageError, match=r"eval_segments\.csv, line 2: 14 cells, expected 4"):
        list(AudioSetSource(root=str(tmp_path)).clips())


def test_msrvtt_1ka_separated_by_semicolons(tmp_path: Path) -> None:
    (tmp_path / "MSRVTT_JSFUSION_test.csv").write_text(MSRVTT_1KA)
    videos = [{"video_id": f"video{k}", "category": 9, "split": "test"} for k in (9770, 9771, 1)]
    sentences = [{"video_id": "video1", "caption": "a cartoon", "sen_id": 0}]
    (tmp_path / "all.json").write_text(json.dumps({"videos": videos, "sentences": sentences}))
    clips = {clip.id: clip for clip in MSRVTTSource(root=str(tmp_path), protocol="1k-A").clips()}
    assert clips["video9771"].captions == ("a little girl does gymnastics",) and clips["video9771"].split == "test"
    assert clips["video1"].split == "train"


def test_kinetics_lists_without_labels_are_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "validate.csv").write_text(KINETICS)
    (tmp_path / "test.csv").write_text(KINETICS_TEST)
    (tmp_path / "mine.csv").write_text("a,b\n1,2\n")
    clips = list(KineticsSource(root=str(tmp_path)).clips())
    assert [(clip.tags, clip.split) for clip in clips] == [(("testifying",), "val")]
    said = capsys.readouterr().err
    assert "test.csv: no column 'label', 2 clips left out" in said
    assert "mine.csv: not a list of Kinetics, skipped" in said
    (tmp_path / "validate.csv").unlink()
    with pytest.raises(UsageError, match=r"no csv file with the columns label.*test\.csv: no column 'label'"):
        list(KineticsSource(root=str(tmp_path)).clips())


def test_crema_ds_file_names(tmp_path: Path) -> None:
    for name in ("1082_IEO_HAP_LO", "1083_TIE_NEU_XX", "1089_ITS_DIS_XX"):
        (tmp_path / f"{name}.flv").touch()
    assert [clip.tags for clip in CremaDSource(root=str(tmp_path)).clips()] == [("happy",), ("neutral",), ("disgust",)]
