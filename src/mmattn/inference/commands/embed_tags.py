"""`mmattn data prompts`: embeds tags with a ready-made text encoder, for task=prompted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmattn.config.compose import Config
from mmattn.errors import UsageError
from mmattn.files import beside, check_output, expanded, followed
from mmattn.inference.tag_list import read_tags
from mmattn.process.device import check_device
from mmattn.progress import Progress
from mmattn.text import counted

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from mmattn.encoders.pretrained.transformers.text_encoder import TextEncoder

SUFFIX = ".safetensors"


def make_prompts(config: Config) -> str:
    """Write the file `out`; returns a summary. Raises UsageError."""
    out, templates = followed(expanded(str(config["out"]))), config["templates"]
    if out.suffix != SUFFIX or out.is_dir():
        raise UsageError(f"out={config['out']}: expected the name of a file that ends in {SUFFIX}")
    check_output(out, f"out={out}")
    if not isinstance(templates, list) or not templates or any("{}" not in str(one) for one in templates):
        raise UsageError(f"templates={templates}: expected sentences with {{}} where the tag stands")
    check_output(out, f"out={config['out']}")
    described = read_tags(expanded(str(config["tags"])))
    check_device(config["device"])
    if not config["hub"] and not expanded(str(config["pretrained"])).exists():
        raise UsageError(f"pretrained={config['pretrained']}: no such file or folder; or fetch a name with hub=true")
    from mmattn.encoders.pretrained.transformers.text_encoder import TextEncoder  # with torch

    encoder = TextEncoder(str(config["pretrained"]), bool(config["hub"]), str(config["device"]))
    found = embeddings(encoder, described, [str(one) for one in templates])
    _write(out, found)
    size = len(next(iter(found.values())))
    return f"{counted(len(found), 'tag')}, {size} numbers each, by {encoder.tower.family.name} -> {out}"


def embeddings(encoder: TextEncoder, described: Mapping[str, str], templates: Sequence[str]) -> dict[str, Tensor]:
    """The embedding of each tag: the mean over the templates, of length 1 (Radford et al. 2021, section 3.1.4)."""
    import torch

    texts = [template.replace("{}", words) for words in described.values() for template in templates]
    parts: list[Float[Tensor, "n E"]] = []
    with Progress("embedding", len(texts)) as progress:
        for done, part in encoder.embedded(texts):
            parts.append(part)
            progress.at(done)
    means = torch.cat(parts).unflatten(0, (len(described), len(templates))).mean(dim=1)
    return dict(zip(described, torch.nn.functional.normalize(means, dim=1), strict=True))


def _write(out: Path, found: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save_file

    try:
        with beside(out) as part:
            save_file({name: row.clone() for name, row in found.items()}, part)
    except OSError as error:
        raise UsageError(f"{out}: cannot be written ({error.strerror})") from None
