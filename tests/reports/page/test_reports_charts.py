"""Charts: labels stay inside, nothing hides anything, the Pareto front is the front."""

from __future__ import annotations

import re

from mmattn.reports.page.charts.lines import lines
from mmattn.reports.page.charts.scatter import CostPoint, front, scatter


def test_labels_stay_inside_and_dots_do_not_hide_each_other() -> None:
    points = [CostPoint(i, f"a rather long name of row {i}", 10.0**i, 0.5 + 0.1 * i) for i in range(4)]
    chart = scatter([*points, CostPoint(4, "hidden", 1.0, 0.5), CostPoint(5, "too", 1.0, 0.5)], "MFLOP", "mAP")
    assert chart.count('class="ring') == 2 and 'r="8"' in chart and 'r="11"' in chart, "around the dot below them"
    labels = re.findall(r'<text class="([^"]*)" x="([\d.]+)%" y="[^"]*" dx="-?\d+">(a rather[^<]*)<', chart)
    assert len(labels) == 4 and any("\u2026" in text for *_, text in labels)
    for css, x, text in labels:
        reach = float(x) - 2.3 * len(text) if "end" in css else float(x) + 2.3 * len(text)
        assert -3 < reach < 103, text


def test_one_validation_is_a_dot_at_its_epoch() -> None:
    chart = lines([(0, "a", [(3.0, 0.5)]), (1, "b", [(3.0, 0.7)])], "epoch", "mAP", (0.0, 1.0))
    assert re.findall(r'class="dots" d="M([\d.]+),([\d.]+)h0"', chart) == [("50.00", "30.00"), ("50.00", "50.00")]
    assert chart.count(">3<") == 1 and "polyline" not in chart


def test_the_front_is_what_nothing_cheaper_beats() -> None:
    points = [CostPoint(i, str(i), x, y) for i, (x, y) in enumerate([(1, 0.5), (2, 0.4), (3, 0.9), (4, 0.9), (2, 0.7)])]
    assert [point.run for point in front(points)] == [0, 4, 2]
    for dominated in set(points) - set(front(points)):
        assert any(p.x <= dominated.x and p.y >= dominated.y for p in front(points))
    same = [CostPoint(0, "<b>", 5.0, 0.5), CostPoint(1, "b", 5.0, 0.5)]
    assert "&lt;b&gt;" in scatter(same, "x", "y") and "nan" not in scatter(same, "x", "y")
