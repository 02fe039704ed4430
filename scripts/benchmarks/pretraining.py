"""What pretraining without labels is worth when few clips have tags: AVShapes, 5 % of the labels, from scratch or not.

python scripts/benchmarks/pretraining.py [--out DIR] [--objective cav_mae] [--seeds 3] [--clips 600] [--epochs 20]

Pretrains once on all training clips, then trains twice for each seed (which draws the labelled clips, too): from random
weights, and from the pretrained ones, for the same steps with the same settings. Prints mAP on the test split.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from mmattn.cli import main as mmattn

SMALL = ["dim=48", "heads=4", "visual.widths=[16,24,32]", "fusion=cross", "fusion.layers=1", "logger=none"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("runs/pretraining"))
    parser.add_argument("--data", default="data/avshapes")
    parser.add_argument("--objective", default="cav_mae")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--tuning", type=int, default=60)
    parser.add_argument("--fraction", type=float, default=0.05)
    given = parser.parse_args()
    common = [f"data.root={given.data}", f"data.clips={given.clips}", "data.isolated=false", *SMALL]
    common += ["trainer.accelerator=cpu", "trainer.threads=1"]
    pretrained = given.out / given.objective
    train(pretrained, [*common, f"pretrain={given.objective}", f"trainer.epochs={given.epochs}", "data.batch_size=32"])
    found: dict[str, list[float]] = {"scratch": [], "pretrained": []}
    for seed in range(given.seeds):
        few = [*common, f"seed={seed}", "data.source.seed=0", f"data.label_fraction={given.fraction}"]
        few += ["data.batch_size=8", f"trainer.epochs={given.tuning}", f"trainer.validate_every={given.tuning}"]
        for name, more in (("scratch", []), ("pretrained", [f"init_from={pretrained}"])):
            run = given.out / f"{name}-{seed}"
            train(run, [*few, *more])
            out = run / "evaluation-test.json"
            if not out.is_file():
                assert mmattn(["evaluate", f"run={run}", "split=test"]) == 0
            found[name].append(json.loads(out.read_text())["metrics"]["mAP"])
            print(f"seed {seed} {name}: mAP {found[name][-1]:.3f}", flush=True)
    for name, values in found.items():
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"{name}: mAP {statistics.mean(values):.3f} +- {spread:.3f} over {len(values)} seeds")


def train(run: Path, options: list[str]) -> None:
    if (run / "finished.json").is_file():
        return
    begun = (run / "config.yaml").is_file()
    assert mmattn(["train", *([f"resume={run}"] if begun else [*options, f"run={run}"])]) == 0


if __name__ == "__main__":
    main()
