"""`watch=true`: the page follows its runs until Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from report_runs import evaluation, make_run

from mmattn.files import write_atomically


def wait_for(what, seconds: float = 90.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_the_page_is_written_again_when_a_run_has_something_new(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "a")
    (run / "evaluation.json").rename(run / "later.json")
    out = tmp_path / "c.html"
    command = [sys.executable, "-m", "mmattn", "compare", f"sweep={tmp_path / 'runs'}", f"out={out}"]
    command += ["watch=true", "every_s=1", "measure=none"]
    with (tmp_path / "told").open("w", encoding="utf-8") as told:
        process = subprocess.Popen(command, stderr=told, stdout=told)
    try:
        wait_for(lambda: "none of the 1 run has finished" in (tmp_path / "told").read_text())
        assert not out.exists(), "there is nothing to show yet"
        (run / "later.json").rename(run / "evaluation.json")
        wait_for(out.is_file)
        assert 'data-refresh="1' in out.read_text(encoding="utf-8")
        make_run(tmp_path / "runs" / "second", "late")
        wait_for(lambda: "second" in out.read_text(encoding="utf-8"))
        at = out.stat().st_mtime_ns
        record = evaluation() | {"clips": 777}
        write_atomically(run / "evaluation.json", json.dumps(record).encode())
        wait_for(lambda: "777 val" in out.read_text(encoding="utf-8") and out.stat().st_mtime_ns > at)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.wait()
