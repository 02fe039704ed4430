"""The verbs with a config, what each needs to be composed, and a fusion config of a user."""

from __future__ import annotations

from mmattn.config.compose import conf_dir, group_choices
from mmattn.config.overrides import GROUPS

VERBS = sorted(path.stem for path in conf_dir().glob("*.yaml"))
NEEDED = {"predict": ["run=r", "source=s"], "evaluate": ["run=r"], "compare": ["runs=[r]"]}
NEEDED |= {"data_check": ["source=s"], "data_shard": ["data.root=d", "out=o"]}
NEEDED |= {"explain": ["run=r", "source=s"]}
NEEDED |= {"data_features": ["run=r", "data.root=d", "out=o"]}
NEEDED |= {"data_manifest": ["data.root=d", "out=o.jsonl"]}
NEEDED |= {"data_label": ["from=l.jsonl"]}
NEEDED |= {"data_prompts": ["tags=t.txt", "pretrained=p", "out=o.safetensors"]}
OWN = "_target_: mmattn.fusion.late.LateFusion\ndim: ${dim}\nlayers: 5\n"
CHOICES = [(group, name) for group in GROUPS for name in group_choices(group)]
