"""Verdicts and sentences on numbers made by hand."""

from __future__ import annotations

import pytest
from report_runs import FAMILIES, evaluation, make_run, split

from mmattn.reports.collect.runs import Split, collect_runs
from mmattn.reports.statistics.findings import findings
from mmattn.reports.statistics.verdicts import disagreement, judge, margin

LEAST = 0.05


def verdict(family, *values):
    found = judge(family, Split(**split(*values)), LEAST)
    assert found is not None
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_the_known_answer_passes(family):
    assert verdict(family, *FAMILIES[family]).state == "pass"


@pytest.mark.parametrize(
    ("family", "values", "why"),
    [
        ("picture", (0.4, 0.6, 0.7, 0.9), "the sound contributes +0.30"),
        ("sound", (0.3, 0.3, 0.31, 0.31), "not learned"),
        ("redundant", (0.3, 0.29, 1.0, 1.0), "leans on the sound; the picture alone gives \u22120.01 of +0.70"),
        ("redundant", (0.3, 0.3, 0.3, 0.9), "neither alone"),
        ("redundant", (0.3, 0.61, 0.61, 0.9), "add up"),
        ("synergy", (0.45, 0.46, 0.44, 0.45), "not learned"),
        ("synergy", (0.4, 0.7, 0.4, 0.7), "no joint effect"),
    ],
)
def test_another_answer_fails_and_says_why(family, values, why):
    found = verdict(family, *values)
    assert found.state == "fail" and why in found.text


def test_undefined_numbers_and_unknown_families_get_no_judgement():
    assert verdict("synergy", None, 0.4, 0.4, 0.9).state == "undefined"
    assert judge("birds", Split(**split(0.1, 0.2, 0.3, 0.4)), LEAST) is None


def test_fewer_clips_ask_for_larger_differences():
    assert margin(100) == pytest.approx(0.05) and margin(25) == pytest.approx(0.1)
    assert margin(1_000_000) == 0.02 and margin(0) == 0.5


def sentences(tmp_path, late_synergy, cross_synergy, clips=400):
    """The summary of a late and a cross run whose synergy scores are given."""
    runs = []
    for name, score in (("late", late_synergy), ("cross", cross_synergy)):
        record = evaluation(FAMILIES | {"synergy": (0.45, 0.45, 0.45, score)}, name == "cross", clips)
        runs.append(make_run(tmp_path / name, name, record))
    return " ".join(finding.text for finding in findings(collect_runs(runs)))


def test_reading_across_that_does_not_pay_off_is_said_plainly(tmp_path):
    text = sentences(tmp_path / "same", 0.6, 0.61)
    assert "cross does not beat late on the tags that need both senses (0.61 against 0.60)" in text
    assert "has not paid off here" in text and "No clear winner" in text
    assert "cross is worse than late" in sentences(tmp_path / "worse", 0.8, 0.5)
    assert "cross beats late" in sentences(tmp_path / "better", 0.5, 0.8)


def test_what_is_a_difference_depends_on_the_clips(tmp_path):
    assert "cross beats late" in sentences(tmp_path / "many", 0.6, 0.7)
    assert "cross does not beat late" in sentences(tmp_path / "few", 0.6, 0.7, clips=16)


def test_a_run_that_falls_behind_is_not_called_equal(tmp_path):
    runs = [make_run(tmp_path / name) for name in ("a", "b")]
    runs.append(make_run(tmp_path / "c", record=evaluation(FAMILIES | {"synergy": (0.45, 0.45, 0.45, 0.6)})))
    text = " ".join(finding.text for finding in findings(collect_runs(runs)))
    assert "b and a share the lead at synergy tags (0.81), ahead of c (0.60)." in text
    assert "About equal at picture, sound and redundant tags." in text


def test_runs_on_other_clips_are_flagged(tmp_path):
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", record=evaluation(clips=100))]
    assert any("not scored on the same clips" in finding.text for finding in findings(collect_runs(runs)))


@pytest.mark.parametrize(
    ("video", "audio", "words"), [(0.9, 0.5, "disagree"), (0.5, 0.9, "agree"), (0.7, 0.7, "cannot")]
)
def test_attention_is_set_against_the_causal_split(tmp_path, video, audio, words):
    record = evaluation()  # its one head leans to the sound
    record["shapley"] = split(0.4, video, audio, 0.95)
    (run,) = collect_runs([make_run(tmp_path / "a", record=record)])
    found = disagreement(run)
    assert found is not None and words in found.text
