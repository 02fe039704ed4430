"""Small annotation files of the public sets as published, and helpers that read them."""

from __future__ import annotations

import json
from pathlib import Path

from mmattn.config.compose import build, compose
from mmattn.data.manifest.adapters.annotated import AnnotatedSource
from mmattn.data.manifest.rows import Row

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


def put(root: Path, files: dict[str, str | dict | list | None]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "" if content is None else content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8")
    return root


def source(name: str, root: Path, *overrides: str) -> AnnotatedSource:
    """As a config makes it."""
    config = compose("data_manifest", [f"data={name}", f"data.root={root}", "out=m.jsonl", *overrides])
    return build(config["data"]["source"])


def row_of(name: str, root: Path, path: str, *overrides: str) -> Row:
    rows = {row.id: row for row in source(name, root, *overrides).find()[0]}
    return next(row for row in rows.values() if row.path == root / path)
