"""The page says what the run directories hold, and does nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest
import torch
from report_runs import FAMILIES, Seen, captions_of, evaluation, make_run, tagged, write_predictions
from safetensors.torch import save

from mmattn.config.compose import compose
from mmattn.errors import UsageError
from mmattn.inference.records.result import Caption, Result
from mmattn.media.write.video import write_video
from mmattn.reports.page.compare import compare
from mmattn.reports.page.report import EXAMPLES, write_report
from mmattn.reports.text import NOTHING

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=https://example.org/x onerror=alert(1)>',
    "'-->]]></title></style><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "two\nlines\x00\x1b[31m",
    "not \udcff utf-8 \u202egnp.exe",
]
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture
def pair(tmp_path):
    """A cross run that learned all and a late one that did not learn synergy."""
    late = evaluation(FAMILIES | {"synergy": (0.45, 0.46, 0.44, 0.45)}, heads=False)
    return [make_run(tmp_path / "a" / "late", "late", late, lr=0.001), make_run(tmp_path / "a" / "cross")]


def test_the_page_has_the_numbers_of_its_runs(pair, tmp_path):
    text = Seen(write_report(pair, None, tmp_path / "report.html", title="My title", notes=["A note."])).text
    assert "My title" in text and "A note." in text
    assert "run all tags picture sound redundant synergy accuracy clips" in text
    assert "late 0.823 0.900 0.950 0.990 0.450 0.875 400 val" in text
    assert "cross 0.912 0.900 0.950 0.990 0.810 0.875 400 val" in text
    assert f"chance 0.362 0.400 0.300 0.300 0.450 {NOTHING}" in text
    assert f"synergy/x {NOTHING} 0.450 0.810 0.450" in text  # no model file, so no family
    assert "cross has the highest mAP, 0.912 (late 0.823); not tested" in text
    assert "Scores are from 400 val clips" in text
    assert "0 62 % 44 % +0.34" in text
    assert "No cross-modal attention: in this run (late)" in text
    assert "optim.lr 0.001 0.002" in text
    assert "0123456789ab" in text and "mmattn compare" in text
    assert "run=" in text and "fusion.dim" not in text


def test_intervals_exchanges_and_gradient_shares_are_shown_as_what_they_are(tmp_path):
    record = evaluation()
    record["shapley_by_family"]["synergy"]["interval"] = {"synergy": [0.31, 0.42], "video": [None, None]}
    out = tmp_path / "report.html"
    write_report([make_run(tmp_path / "a", record=record)], None, out)
    shown = " ".join(out.read_text(encoding="utf-8").split())
    assert "synergy +0.31 to +0.42" in shown and shown.count("95 % interval:") == 1
    weighted = " ".join(Seen(out).text.split())
    assert "a +0.34 +0.26 +0.29 \u22120.08 0.438 0.312 0.312" in weighted
    del record["permutation"], record["gradient_share"]  # an evaluation from before there were any
    write_report([make_run(tmp_path / "b", record=record)], None, out)
    assert f"b +0.34 +0.26 +0.29 \u22120.08 {NOTHING} {NOTHING} {NOTHING}" in Seen(out).text


def test_test_scores_are_shown_only_when_every_run_has_them(pair, tmp_path):
    record = evaluation(dict.fromkeys(FAMILIES, (0.1, 0.1, 0.1, 0.125))) | {"split": "test"}
    (pair[0] / "evaluation-test.json").write_text(json.dumps(record))
    assert Seen(write_report(pair, None, tmp_path / "one.html")).text.count("400 val ") == 3
    (pair[1] / "evaluation-test.json").write_text(json.dumps(record))
    text = Seen(write_report(pair, None, tmp_path / "two.html")).text
    assert text.count("400 test") == 3 and "cross 0.125 0.125" in text and "flattering" not in text


def test_examples_show_pictures_truth_and_failures(pair, tmp_path):
    frames = np.full((10, 36, 64, 3), 90, np.uint8)
    write_video(tmp_path / "clip.mp4", frames, 10)
    lines = [
        tagged(str(tmp_path / "clip.mp4"), {"red": 0.93, "blue": 0.71}, truth=["red", "green"]),
        tagged(str(tmp_path / "gone.mp4"), {}),
        {"path": "x/empty.mp4", "status": "failed", "reason": "not_media", "detail": "no container"},
    ]
    seen = Seen(write_report(pair, write_predictions(tmp_path / "p.jsonl", lines), tmp_path / "report.html"))
    pictures = [value for name, value in seen.attributes if name == "src"]
    assert len(pictures) == 4 and all(value.startswith("data:image/jpeg;base64,/9j/") for value in pictures)
    assert "✓ right red 0.93" in seen.text and "✗ wrong blue 0.71" in seen.text and "○ missed green" in seen.text
    assert "no picture to show" in seen.text and "no tag reached the threshold" in seen.text
    assert "x/empty.mp4 not_media no container" in seen.text
    assert "Read: picture and sound." in seen.text


def test_examples_are_few_and_spread(pair, tmp_path):
    lines = [tagged(f"f{i:03d}.mp4", {"red": 0.9}) for i in range(120)]
    text = Seen(write_report(pair, write_predictions(tmp_path / "p.jsonl", lines), tmp_path / "report.html")).text
    assert f"{EXAMPLES} of 120" in text
    assert [f"f{i:03d}.mp4" in text for i in (0, 10, 110, 1, 119)] == [True, True, True, False, False]


def test_hostile_names_are_inert(tmp_path):
    families = dict.fromkeys(HOSTILE, (0.4, 0.5, 0.5, 0.6))
    record = evaluation(families)
    record["attention"][0] |= {"layer": HOSTILE[0], "stream": HOSTILE[1]}
    record["metrics"]["accuracy"] = {HOSTILE[1]: 0.5}
    run = make_run(tmp_path / "<script>alert(1)<", record=record)
    (run / "run.json").write_text(json.dumps({"python": HOSTILE[1], "platform": HOSTILE[5]}))
    other = make_run(tmp_path / 'b" onerror="alert(1)', record=record, lr=0.5)
    lines = [tagged(name, {name: 0.9}, truth=HOSTILE, captions=captions_of(name), issues=[name]) for name in HOSTILE]
    lines += [{"path": name, "status": "failed", "reason": name, "detail": name} for name in HOSTILE]
    predictions = write_predictions(tmp_path / "<b>p.jsonl", lines)
    page = write_report([run, other], predictions, tmp_path / "r.html", title=HOSTILE[2], notes=HOSTILE)
    seen = Seen(page)
    assert not seen.tags & {"iframe", "object", "embed", "link", "base", "form", "img"}
    assert seen.scripts == 1, "the page's own"
    assert not [name for name, _ in seen.attributes if name.startswith("on") or name in ("src", "style")]
    assert all(value.startswith("#") for name, value in seen.attributes if name == "href")
    assert "<script>alert(1)</script>" in seen.text and "{{ 7 * 7 }}{% raw %}" in seen.text
    assert r"two\x0alines\x00\x1b[31m" in seen.text and r"not \udcff utf-8 \u202egnp.exe" in seen.text
    assert "url(" not in page.read_text(encoding="utf-8") and "@import" not in page.read_text(encoding="utf-8")


def test_a_file_shows_the_captions_that_predict_writes(pair, tmp_path):
    captions = tuple(Caption(2.0 * i, 2.0 * i + 2, f"a dog barks {i}", -1.0, ()) for i in range(6))
    files = [Result("one.mp4", "ok", captions=captions[:1]), Result("long.mp4", "ok", captions=captions)]
    predictions = write_predictions(tmp_path / "p.jsonl", [file.to_dict() for file in files])
    text = Seen(write_report(pair, predictions, tmp_path / "report.html")).text
    assert "one.mp4 a dog barks 0 no tag" in text
    assert "long.mp4 a dog barks 0 a dog barks 1 a dog barks 2 a dog barks 3 \u2026 no tag" in text


def test_the_model_file_tells_the_family_of_each_tag(pair, tmp_path):
    vocabulary = {"names": ["sound/x"], "exclusive": [], "families": {"sound/x": "sound"}}
    metadata = {"mmattn": json.dumps({"vocabulary": vocabulary})}
    weights = {"a": torch.zeros(30, 40), "b": torch.zeros(34)}
    (pair[0] / "model.safetensors").write_bytes(save(weights, metadata))
    (pair[1] / "model.safetensors").write_bytes(b"\xff" * 100)  # a broken one only leaves its facts out
    text = Seen(write_report(pair, None, tmp_path / "report.html")).text
    assert "sound/x sound 0.950 0.950 0.300" in text and f"parameters 1,234 {NOTHING}" in text


def test_undefined_fields_are_dashes(tmp_path):
    record = evaluation({"picture": (None, None, None, None), "sound": (0.3, 0.3, 0.9, 0.9)})
    record["metrics"] |= {"mAP": None, "mean_accuracy": None, "accuracy": {}, "chance_mAP": None}
    record |= {"attention": [], "shapley": split_of_nothing()}
    run = make_run(tmp_path / "a", record=record)
    (run / "metrics.jsonl").unlink()
    (run / "run.json").unlink()
    text = Seen(write_report([run], None, tmp_path / "report.html")).text
    assert f"a {NOTHING} {NOTHING} 0.900 400 val" in text
    assert f"{NOTHING} undefined" in text and "No run has logged metrics." in text and "None" not in text


def split_of_nothing():
    return {"value": dict.fromkeys(("none", "video", "audio", "both")), "video": None, "audio": None, "synergy": None}


def test_without_families_the_split_is_by_tag_and_without_verdict(tmp_path):
    record = evaluation()
    record |= {"shapley_by_family": {}}
    record["metrics"]["mAP_by_family"] = {}
    page = write_report([make_run(tmp_path / "a", record=record)], None, tmp_path / "report.html")
    assert "<details open>" in page.read_text(encoding="utf-8")
    text = Seen(page).text
    assert "picture/x a +0.50 0.00 0.00 0.40 0.90" in text and "should be" not in text


def test_what_cannot_be_compared_is_said_in_one_line(pair, tmp_path):
    out = tmp_path / "report.html"

    def message(**changed):
        config = compose("compare") | {"runs": list(map(str, pair)), "out": str(out), "measure": "none"} | changed
        with pytest.raises(UsageError) as caught:
            compare(config)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "nowhere: no such run directory" in message(runs=[str(tmp_path / "nowhere")])
    assert "not a run directory (no config.yaml)" in message(runs=[str(tmp_path)])
    assert "nothing to compare" in message(runs=[])
    assert "expected a list" in message(runs=7)
    assert "set either runs= or sweep=" in message(runs=None) and "set either runs= or sweep=" in message(
        sweep=str(tmp_path)
    )
    assert "it matches nothing" in message(runs=str(tmp_path / "z*"))
    assert "none of the 1 it matches is a run" in message(runs=f"{tmp_path}/[a]")
    assert "no run directory below it" in message(runs=None, sweep=str(pair[0]))
    assert "expected missing, all, none" in message(measure="maybe")
    assert "no such row; choose from late, cross" in message(baseline="bottleneck")
    assert "mmattn predict" in message(predictions=str(tmp_path / "none.jsonl"))
    (tmp_path / "bad.jsonl").write_text('{"path": "a", "status": "ok", "tags": []}\n[1]\n')
    assert "line 2 is not a prediction" in message(predictions=str(tmp_path / "bad.jsonl"))
    (tmp_path / "file").write_text("")
    assert "is not a folder" in message(out=str(tmp_path / "file" / "report.html"))
    (pair[1] / "evaluation.json").write_text('{"clips": 3}')
    assert "incomplete evaluation" in message()
    (pair[1] / "evaluation.json").unlink()
    assert "no validation has finished" in message()
    assert not out.exists()


def test_runs_of_one_name_are_told_apart(tmp_path):
    runs = [make_run(tmp_path / "x" / "cross"), make_run(tmp_path / "y" / "cross")]
    text = Seen(write_report([*runs, runs[0]], None, tmp_path / "report.html")).text
    assert "y/cross" in text and "x/cross (1)" in text and "x/cross (3)" in text


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_a_browser_shows_it_without_complaint(pair, tmp_path):
    write_video(tmp_path / "clip.mp4", np.full((10, 36, 64, 3), 90, np.uint8), 10)
    lines = [tagged(str(tmp_path / "clip.mp4"), {"red": 0.9}, captions=captions_of(text)) for text in HOSTILE]
    page = write_report(pair, write_predictions(tmp_path / "p.jsonl", lines), tmp_path / "report.html")
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={tmp_path / 'shot.png'}"]
    shown = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=60)
    assert "CONSOLE" not in shown.stderr, shown.stderr
    assert "<h2>Examples</h2>" in shown.stdout and shown.stdout.count("<script>") == 1
    assert (tmp_path / "shot.png").stat().st_size > 10_000
