"""The verbs with a config, and what each needs to be composed."""

from __future__ import annotations

from mmattn.config.compose import conf_dir

VERBS = sorted(path.stem for path in conf_dir().glob("*.yaml"))
NEEDED = {"predict": ["run=r", "source=s"], "evaluate": ["run=r"], "compare": ["runs=[r]"]}
NEEDED |= {"data_check": ["source=s"], "data_shard": ["data.root=d", "out=o"]}
NEEDED |= {"explain": ["run=r", "source=s"]}
NEEDED |= {"data_features": ["run=r", "data.root=d", "out=o"]}
NEEDED |= {"data_manifest": ["data.root=d", "out=o.jsonl"]}
NEEDED |= {"data_label": ["from=l.jsonl"]}
NEEDED |= {"data_prompts": ["tags=t.txt", "pretrained=p", "out=o.safetensors"]}
