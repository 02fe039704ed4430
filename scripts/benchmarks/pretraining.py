"""What pretraining without labels is worth when few clips have tags: AVShapes, 5 % of the labels, from scratch or not.

python scripts/benchmarks/pretraining.py [--out DIR] [--objective sync] [--seeds 4] [--clips 600] [--epochs 27]
    [--tuning 60] [--scratch KEY=VALUE ...] [--tune KEY=VALUE ...]

Pretrains once on all training clips, then trains twice for each seed (which draws the labelled clips, too): from random
weights, and from the pretrained ones, for the same steps. `--scratch` and `--tune` are more settings of each, so that
either may have the learning rate that suits it. Prints mAP on the test split by family of tags, with intervals over
seeds (Student's t, 95 %), and the interval of the difference of each seed's pair.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path

from mmattn.cli.main import main as mmattn

SMALL = ["dim=48", "heads=4", "visual.widths=[16,24,32]", "fusion=cross", "fusion.layers=1", "logger=none"]
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # 97.5 % quantiles, 1 to 9 degrees
FAMILIES = ("all", "picture", "sound", "redundant", "synergy")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("runs/pretraining"))
    parser.add_argument("--data", default="data/avshapes")
    parser.add_argument("--objective", default="sync")
    parser.add_argument("--seeds", type=int, default=4, choices=range(2, 11))
    parser.add_argument("--clips", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=27)
    parser.add_argument("--tuning", type=int, default=60)
    parser.add_argument("--fraction", type=float, default=0.05)
    parser.add_argument("--pretrain", nargs="*", default=["data.augment.modality_dropout=0"])
    parser.add_argument("--scratch", nargs="*", default=[])
    parser.add_argument("--tune", nargs="*", default=[])
    given = parser.parse_args()
    common = [f"data.root={given.data}", f"data.clips={given.clips}", "data.isolated=false", *SMALL]
    common += ["trainer.accelerator=cpu", "trainer.threads=1"]
    pretrained = given.out / given.objective
    settings = [f"pretrain={given.objective}", f"trainer.epochs={given.epochs}", "data.batch_size=32", *given.pretrain]
    train(pretrained, [*common, *settings])
    found: dict[str, list[dict[str, float]]] = {"scratch": [], "pretrained": []}
    for seed in range(given.seeds):
        few = [*common, f"seed={seed}", "data.source.seed=0", f"data.label_fraction={given.fraction}"]
        few += ["data.batch_size=8", f"trainer.epochs={given.tuning}", f"trainer.validate_every={given.tuning}"]
        for name, more in (("scratch", given.scratch), ("pretrained", [*given.tune, f"init_from={pretrained}"])):
            run = given.out / f"{name}-{seed}"
            train(run, [*few, *more])
            found[name].append(tested(run))
            print(f"seed {seed} {name}: mAP {found[name][-1]['all']:.3f}", flush=True)
    for family in FAMILIES:
        values = {name: [one[family] for one in rows] for name, rows in found.items()}
        values["difference"] = [b - a for a, b in zip(values["scratch"], values["pretrained"], strict=True)]
        print(f"{family}: " + ", ".join(f"{name} {interval(of)}" for name, of in values.items()))


def train(run: Path, options: list[str]) -> None:
    if (run / "finished.json").is_file():
        return
    begun = (run / "config.yaml").is_file()
    assert mmattn(["train", *([f"resume={run}"] if begun else [*options, f"run={run}"])]) == 0


def tested(run: Path) -> dict[str, float]:
    """mAP on the test split, of all tags and by family."""
    out = run / "evaluation-test.json"
    if not out.is_file():
        assert mmattn(["evaluate", f"run={run}", "split=test"]) == 0
    metrics = json.loads(out.read_text())["metrics"]
    return {"all": metrics["mAP"], **metrics["mAP_by_family"]}


def interval(values: list[float]) -> str:
    half = STUDENT[len(values) - 2] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.mean(values):.3f} +- {half:.3f}"


if __name__ == "__main__":
    main()
