"""What a new user meets: faults are named before work starts, and results say what they are and what comes next."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmattn.cli.main import main
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.data.manifest.rows import Row
from mmattn.media.write.video import write_video

RATE = 16000


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["heads=5"], "dim 96 does not divide into 5 heads"),
        (["fusion.heads=7"], "fusion.heads=7"),
        (["init_from=nowhere"], "init_from=nowhere: no such run"),
        (["data=folder"], "data.root is not set; add data.root=..."),
        (["data=folder", "data.root=nowhere"], "data.root=nowhere: no such directory"),
        (["data=folder", "data.manifest=nowhere.jsonl"], "nowhere.jsonl: no such manifest"),
        (["run=taken"], "already holds a run"),
        (["run=taken/config.yaml/x"], "is not a folder"),
        (["trainer.epochs=[1,2]"], "trainer.epochs=[1,2]: expected a number"),
        (["data.clips={train: 16}"], "data.clips={train: 16}: expected a number"),
    ],
)
def test_what_can_be_known_before_is_said_before_torch_is_there(given: list[str], says: str, tmp_path: Path) -> None:
    """Nothing is rendered, read or imported that takes long."""
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "config.yaml").touch()
    code = (
        "import sys; from mmattn.cli.main import main; code = main(sys.argv[1:]); "
        "sys.exit(code if 'torch' not in sys.modules else 77)"
    )
    own = [] if any(text.startswith("data=") for text in given) else ["data.root=rendered"]
    command = [sys.executable, "-c", code, "train", "logger=none", *own, *given]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 2, found.stderr
    assert says in found.stderr and found.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken"]


@pytest.mark.parametrize(
    "given",
    [
        ["evaluate", "run=nowhere"],
        ["explain", "run=nowhere", "source=a.mp4"],
        ["data", "features", "run=nowhere", "data.root=.", "out=o"],
        ["data", "shard", "data.root=nowhere", "out=o"],
        ["data", "label", "from=nowhere"],
        ["search", "nowhere", "word"],
    ],
)
def test_what_other_verbs_read_is_looked_for_first(given: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from mmattn.cli.main import main; "
        "c = main(sys.argv[1:]); sys.exit(77 if 'torch' in sys.modules else c)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, *given], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert found.returncode == 2, found.stderr
    assert "nowhere" in found.stderr and found.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


WRONG = [  # words of a command, what the error names; in a folder with a run, a library, a list of tags and a video
    ("evaluate run=run split=tset", "split=tset: expected train, val or test"),
    ("evaluate run=run split=test", "has no test clips"),
    ("evaluate run=run noise.kind=brown", "noise.kind=brown"),
    ("evaluate run=run noise.kind=pink noise.snr_db=.inf", "noise.snr_db"),
    ("evaluate run=run views.crops=2", "views.crops=2: expected 1 or 3"),
    ("evaluate run=run views.spans=0", "views.spans=0"),
    ("train trainer.epochs=0", "trainer.epochs=0: expected 1 or more"),
    ("train optim.lr=-1", "optim.lr=-1: expected a number above 0"),
    ("train trainer.precision=bf17", "trainer.precision=bf17: expected 32, 32-true, bf16-mixed or 16-mixed"),
    ("train visual=none audio=none", "nothing to learn from"),
    ("train task=none", "nothing to learn"),
    ("train resume=videos", "videos: not a run directory"),
    ("train sweep=x", "sweep.folder=x: sweeps are of many runs"),
    ("train -m", "nothing to sweep over"),
    ("train -m seed=0,1 trainer.epochs=0", "trainer.epochs=0: expected 1 or more"),
    ("sweep ls", "name the folder of a sweep"),
    ("sweep ls nowhere", "nowhere"),
    ("compare runs=[run] evaluate=some", "evaluate=some: expected ask, missing or none"),
    ("compare runs=[videos]", "videos: not a run directory (no config.yaml)"),
    ("train data=folder data.root=videos", "only the file 'a.mp4'"),
    ("train --info foo", "'foo' is not key=value"),
    ("data features run=begun data.root=rows out=o", "begun: contains no model.safetensors"),
    ("predict model=pretrained source=videos text.min_confidence=200", "text.min_confidence=200: expected 0 to 100"),
    ("compare runs=[]", "name at least one run directory"),
    ("dashboard runs=[nowhere]", "nowhere: no such run directory"),
    ("predict model=pretrained source=", "source= is empty"),
    ("predict model=pretrained source=videos track_format=ass", "track_format=ass: expected"),
    ("predict model=pretrained source=videos views.crops=2", "views.crops=2: expected 1 or 3"),
    ("predict run=run source=videos annotators=[speech]", "annotators=[speech]: is for model=pretrained"),
    ("data label from=lib.jsonl annotators=[foo]", "annotators=[foo]: no tag of theirs"),
    ("evaluate run=videos", "videos: not a run directory"),
    ("evaluate run=begun", "begun: no model yet"),
    ("evaluate run=run out=lib.jsonl/x.json", "lib.jsonl is not a folder"),
    ("compare runs=nowhere/*", "runs=nowhere/*: it matches nothing"),
    ("compare runs=[nowhere]", "nowhere: no such run directory"),
    ("compare runs=[run] measure=some", "measure=some: expected missing, all, none"),
    ("compare runs=[run] predictions=nowhere", "predictions=nowhere: no such file"),
    ("compare runs=[run] out=lib.jsonl/x.html", "lib.jsonl is not a folder"),
    ("search lib.jsonl dog embeddings=nowhere", "embeddings=nowhere"),
    ("search lib.jsonl dog least_similarity=2", "least_similarity=2: expected -1 to 1"),
    ("browse lib.jsonl out=lib.jsonl/x.html", "lib.jsonl is not a folder"),
    ("explain run=run source=nowhere.mp4", "source=nowhere.mp4: no such file"),
    ("explain run=run source=videos", "is a directory"),
    ("explain run=run source=videos/a.mp4 heat=warm", "heat=warm: expected causal or attention"),
    ("explain run=run source=videos/a.mp4 device=gpu", "device=gpu: expected cpu, cuda, cuda:0"),
    ("explain run=run source=videos/a.mp4 out=lib.jsonl", "out=lib.jsonl: not a directory"),
    ("explain run=begun source=videos/a.mp4", "begun: contains no model.safetensors"),
    ("predict run=run source=videos device=gpu", "device=gpu: expected auto, cpu, cuda, cuda:0"),
    (
        "predict model=pretrained source=videos speech.pretrained=nowhere annotators=[speech]",
        "speech.pretrained=nowhere",
    ),
    ("data shard data.root=rows out=lib.jsonl/x", "lib.jsonl is not a folder"),
    ("data features run=run data.root=rows out=o device=gpu", "device=gpu"),
    ("data check source=videos out=lib.jsonl/x", "lib.jsonl is not a folder"),
    ("data label from=lib.jsonl out=lib.jsonl/m.csv", "lib.jsonl is not a folder"),
    ("data prompts tags=nowhere.txt pretrained=run out=x.safetensors", "tags=nowhere.txt: no such file"),
    ("data prompts tags=tags.txt pretrained=nowhere out=x.safetensors", "pretrained=nowhere: no such file or folder"),
    ("train data=folder data.root=rows visual=siglip2 visual.pretrained=nowhere", "visual.pretrained=nowhere"),
    ("train data=folder data.root=rows audio=yamnet audio.pretrained=nowhere", "audio.pretrained=nowhere"),
]


def test_every_verb_says_what_is_wrong_before_torch_is_there(tmp_path: Path) -> None:
    for name in ("run", "begun"):
        (tmp_path / name).mkdir()
        source = {"_target_": "mmattn.data.manifest.sources.FolderSource", "root": str(tmp_path / "rows")}
        config = {"data": {"source": source}, "fusion": {}, "trainer": {}}
        (tmp_path / name / "config.yaml").write_text(json.dumps(config))
    (tmp_path / "run" / "model.safetensors").touch()
    for folder in ("videos", "rows"):
        (tmp_path / folder).mkdir()
    (tmp_path / "rows" / "manifest.jsonl").write_text('{"path": "a.mp4", "split": "train", "tags": ["x"]}\n')
    (tmp_path / "videos" / "a.mp4").touch()
    (tmp_path / "tags.txt").write_text("dog\n")
    (tmp_path / "lib.jsonl").write_text('{"id": "a", "path": "a.mp4", "status": "failed", "reason": "x"}\n')
    there = sorted(tmp_path.rglob("*"))
    code = (
        "import contextlib, io, json, sys\nfrom mmattn.cli.main import main\nfound = []\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    with contextlib.redirect_stderr(io.StringIO()) as said:\n"
        "        code = main(words.split())\n"
        "    found.append((code, said.getvalue(), 'torch' in sys.modules))\n"
        "print(json.dumps(found))"
    )
    command = [sys.executable, "-c", code, json.dumps([words for words, _ in WRONG])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    for (words, says), (exit_code, said, has_torch) in zip(WRONG, json.loads(done.stdout), strict=True):
        assert exit_code == 2 and said.count("\n") == 1 and says in said, (words, exit_code, said)
        assert not has_torch, f"{words}: torch was imported before {said}"
    assert sorted(path for path in tmp_path.rglob("*") if path.suffix != ".index") == there


@pytest.mark.parametrize(
    "given", ["regulariser=hoyer fusion=late", "optim.lr=-1", "task=none", "pretrain=mae visual=none"]
)
def test_what_the_parts_refuse_is_said_before_clips_are_rendered(
    given: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    root = tmp_path / "rendered"
    assert main(["train", "logger=none", f"data.root={root}", f"run={tmp_path / 'run'}", *given.split()]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not root.exists()


def test_help_lists_the_keys_of_the_choices_that_are_named(capsys: pytest.CaptureFixture) -> None:
    assert main(["train", "visual=siglip2", "audio=ast", "--help"]) == 0
    named = capsys.readouterr().out
    assert "kind: siglip2" in named and "num_patches" in named and "AST" in named.replace("ASTEncoder", "AST")
    assert "mode: finetune        # or frozen, or lora" in named
    assert main(["train", "--help"]) == 0
    plain = capsys.readouterr().out
    assert plain != named and "audio=yamnet --help" in plain and "audio.mode" in plain
    assert main(["train", "visual=siglip3", "--help"]) == 2
    assert "siglip2" in capsys.readouterr().err


def test_help_lists_the_keys_of_the_annotators_that_are_named(capsys: pytest.CaptureFixture) -> None:
    assert main(["predict", "annotators=[speech,captions]", "--help"]) == 0
    named = capsys.readouterr().out
    assert "speech.KEY=" in named and "vad_peak" in named and "captions.KEY=" in named and "endpoint" in named
    assert main(["predict", "--help"]) == 0
    plain = capsys.readouterr().out
    assert "annotators=[speech] --help" in plain and "speech.pretrained" in plain and "overwrite_tracks" in plain
    assert main(["predict", "annotators=speech", "--help"]) == 0
    assert "vad_peak" in capsys.readouterr().out
    assert main(["predict", "annotators=[speach]", "--help"]) == 2
    assert "speech" in capsys.readouterr().err
    assert main(["predict", "annotators=auto", "--help"]) == 0
    assert capsys.readouterr().out == plain


def test_one_class_a_clip_is_not_named_after_its_first_class() -> None:
    rows = [Row(name, Path(name), tags=(name,)) for name in ("baby_cry", "rain", "rooster")]
    assert TagVocabulary.from_rows(rows).groups() == {"classes": (0, 1, 2)}
    rows = [Row(name, Path(name), tags=(f"sound/{name}",)) for name in ("rain", "rooster")]
    assert list(TagVocabulary.from_rows(rows).groups()) == ["sound"]


def test_a_split_without_clips_is_named_before_the_model_is_loaded(
    tmp_path: Path, small: list[str], shapes: Path, capsys: pytest.CaptureFixture
) -> None:
    lines = [json.loads(line) for line in (shapes / "manifest.jsonl").read_text().splitlines()]
    kept = [{**line, "path": str(shapes / line["path"])} for line in lines if line["split"] != "test"]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    settings = [text for text in small if not text.startswith(("data=", "data.root", "data.clips", "data.source"))]
    run = tmp_path / "run"
    given = ["data=folder", f"data.root={tmp_path}", "data.clip.seconds=1.0", "trainer.epochs=1", "logger=none"]
    assert main(["train", *settings, *given, f"run={run}"]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(run), "scripts take the run from here"
    assert "clips are the first 1 s of files of 3 s on average: 33 % of the media is ever used" in said.err
    train, val = (sum(line["split"] == split for line in kept) for split in ("train", "val"))
    assert f"{train} clips to train on, {val} to validate" in said.err and "mAP" in said.err
    assert f"mmattn evaluate run={run} split=val" in said.err and f"mmattn predict run={run}" in said.err
    (run / "model.safetensors").write_bytes(b"")
    assert main(["evaluate", f"run={run}", "split=test"]) == 2
    assert "has no test clips" in capsys.readouterr().err


def test_silence_is_named_with_where_it_is(trained: Path, tmp_path: Path) -> None:
    frames = np.zeros((14 * 5, 48, 64, 3), np.uint8)
    sound = (0.3 * np.sin(2 * np.pi * 440 * np.arange(14 * RATE) / RATE)).astype(np.float32)
    sound[3 * RATE : 11 * RATE] = 0
    write_video(tmp_path / "partly.mkv", frames, 5, sound, RATE)
    write_video(tmp_path / "wholly.mkv", frames, 5, np.zeros_like(sound), RATE)
    write_video(tmp_path / "loud.mkv", frames, 5, sound + 0.01, RATE)
    out = tmp_path / "out.jsonl"
    assert main(["predict", f"run={trained}", f"source={tmp_path}", "span_step_s=1", f"out={out}"]) == 0
    issues = {Path(r["path"]).stem: r["issues"] for r in map(json.loads, out.read_text().splitlines())}
    assert issues["wholly"] == ["silent_audio"] and not any("silent" in issue for issue in issues["loud"])
    (partly,) = [issue for issue in issues["partly"] if "silent" in issue]
    start, _, end = partly.removeprefix("silent_audio ").removesuffix(" s").partition("-")
    assert 3 <= float(start) < float(end) <= 11, partly


def test_the_page_of_a_check_has_a_dash_where_nothing_is_known(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_text("no video")
    write_video(tmp_path / "soundless.mkv", np.zeros((10, 48, 64, 3), np.uint8), 5)
    assert main(["data", "check", f"source={tmp_path}", f"out={tmp_path / 'out'}", "workers=1"]) == 0
    assert ">None<" not in (tmp_path / "out" / "report.html").read_text()
