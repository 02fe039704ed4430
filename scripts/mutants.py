"""Faults put into the fusions one at a time, in a copy of the tree: a test has to fail for each.

    python scripts/mutants.py [WORD ...]    # only those whose file or fault has one of the words

Prints a line a fault and exits 1 where one survives. Needs a system that forks: torch is then imported once.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
DEFINITIONS, REACH, COMMON = (f"tests/fusion/test_{name}.py" for name in ("definitions", "reach", "fusion"))
EXEMPT = "tests/attention/test_exempt.py"
INSTANT, STARTS, PROJECTED = (f"{DEFINITIONS} -k {word}" for word in ("instant", "starts_shut", "projected"))
BLOCK, HEADS = "fusion/blocks/transformer.py", "fusion/blocks/multi_head.py"
GATED = "attention/linear/gated_linear.py"
WINDOW = f"{REACH} -k hierarchical-time_window"


class Mutant(NamedTuple):
    file: str  # of src/mmattn
    old: str
    new: str
    tests: str = ""  # with pytest's options; the strategy's own of test_definitions.py where none are named

    @property
    def to_run(self) -> str:
        stem = Path(self.file).stem
        known = (ROOT / "conf" / "fusion" / f"{stem}.yaml").is_file()
        return self.tests or (f"{DEFINITIONS} -k 'definition and {stem}'" if known else DEFINITIONS)


MUTANTS = [
    # blocks
    Mutant(BLOCK, "x = own.values + self.dropout(read)", "x = self.dropout(read)"),
    Mutant(BLOCK, "zeroed(x + self.mlp(self.norm2(x)), own)", "zeroed(self.mlp(self.norm2(x)), own)"),
    Mutant(BLOCK, "zeroed(x + self.mlp(self.norm2(x)), own)", "own.with_values(x + self.mlp(self.norm2(x)))"),
    Mutant(BLOCK, "self.norm1[name](streams[name].values)", "streams[name].values"),
    Mutant(BLOCK, "x = tokens.values + self.dropout(update)", "x = self.dropout(update)"),
    Mutant(BLOCK, "zeroed(x + change, tokens)", "zeroed(change, tokens)"),
    Mutant(BLOCK, "with_values(self.norm1(part.values)", "with_values((part.values)"),
    Mutant(BLOCK, "self.experts[name](x)", "next(iter(self.experts.values()))(x)"),
    # attention within a fusion
    Mutant(HEADS, "_start_time_local(heads, self.q_proj, *self.k_proj.values())", "pass", INSTANT),
    Mutant(HEADS, "_start_time_local(heads, self.q_proj, self.k_proj)", "pass", INSTANT),
    Mutant(HEADS, "bias[: heads // 2, :", "bias[:, :", INSTANT),
    Mutant(HEADS, ": head_dim // 2] = size", ":] = size", INSTANT),
    Mutant(HEADS, "self.position(self._split(k), of_k)", "self._split(k)"),
    Mutant(HEADS, "self.position.prepare(attention(heads, dim // heads))", "attention(heads, dim // heads)"),
    Mutant(HEADS, "None if name in LEARNED else linear.bias", "linear.bias", INSTANT),
    Mutant(HEADS, "geometry_of(parts, self.exempt)", "geometry_of(parts)", WINDOW),
    # parts
    Mutant("fusion/blocks/parts.py", "(tokens.values * keep).sum(dim=1) / keep", "tokens.values.sum(dim=1) / keep"),
    Mutant("fusion/blocks/parts.py", "centre.expand(-1, count)", "0 * centre.expand(-1, count)"),
    Mutant("fusion/blocks/parts.py", "centre = (time * real)", "centre = time"),
    Mutant("fusion/blocks/parts.py", '- tokens.times[:, None] if "mean', '+ tokens.times[:, None] if "mean', COMMON),
    Mutant("fusion/blocks/parts.py", "count / total for", "count / count for", COMMON),
    Mutant("fusion/blocks/parts.py", "[i].mean(dim=1)", "[i][:, 0]", COMMON),
    # strategies
    Mutant("fusion/cross.py", '("audio", "video")', '("audio",)'),
    Mutant("fusion/late.py", '{"video": ("video",),', '{"video": ("video", "audio"),'),
    Mutant("fusion/blocks/two_stream.py", "if i >= from_layer", "if i > from_layer"),
    Mutant("fusion/blocks/two_stream.py", "for stream in MODALITIES", "for stream in MODALITIES[:1] * 2"),
    Mutant("fusion/concat.py", "tokens.values + self.modality_embed[name]", "tokens.values"),
    Mutant("fusion/concat.py", "self.modality_embed[name]", 'self.modality_embed["video"]'),
    Mutant("fusion/experts.py", "MODALITIES if i < layers - joint_layers", "() if i < layers - joint_layers"),
    Mutant("fusion/experts.py", "tokens.values + self.modality_embed[name]", "tokens.values"),
    Mutant("fusion/bottleneck.py", "streams[name].present[:, None", "written[name].present[:, None"),
    Mutant("fusion/bottleneck.py", "total / count.clamp(min=1.0)", "total / 2"),
    Mutant("fusion/bottleneck.py", "total / count.clamp(min=1.0)", "before.values"),
    Mutant("fusion/bottleneck.py", "meets, last = i >= self.from_layer,", "meets, last = True,"),
    Mutant("fusion/bottleneck.py", "queries = reads[:1] if last else reads", "queries = reads[:1]"),
    Mutant("fusion/film.py", "(1 + gamma1) *", "gamma1 *"),
    Mutant("fusion/film.py", "+ beta1", "- beta1"),
    Mutant("fusion/film.py", "torch.where(other.present[:, None], context, 0.0)", "context"),
    Mutant("fusion/film.py", "(1 + gamma2) * self.norm2(values) + beta2", "(1 + gamma1) * self.norm2(values) + beta1"),
    Mutant("fusion/film.py", "self.context_norm(masked_mean(other))", "masked_mean(other)"),
    Mutant("fusion/film.py", "values = own.values + self.dropout(read)", "values = x.values + self.dropout(read)"),
    Mutant("fusion/gated.py", "+ (1 - gate) *", "+ gate *"),
    Mutant("fusion/gated.py", "torch.where(other.present[:, None, None], gate, 1.0)", "gate"),
    Mutant("fusion/gated.py", "zeroed(own.values + h, own)", "zeroed(h, own)"),
    Mutant("fusion/gated.py", "torch.cat([x.values, r], dim=-1)", "torch.cat([r, x.values], dim=-1)"),
    Mutant("fusion/gated.py", "{stream: share, OTHER", "{stream: rest, OTHER", "tests/fusion/test_strategies.py"),
    Mutant("fusion/tensor.py", 'streams["video"]) * self', 'streams["video"]) + self'),
    Mutant("fusion/tensor.py", "torch.where(tokens.present[:, None], self.norms[name](masked_mean(tokens)), 0.0)",
           "self.norms[name](masked_mean(tokens))"),
    Mutant("fusion/tensor.py", "nn.init.ones_(factor.bias)", "nn.init.zeros_(factor.bias)", STARTS),
    Mutant("fusion/tensor.py", "streams[name].values + self.out_proj", "self.out_proj"),
    Mutant("fusion/perceiver.py", "encode(latents, marked, stats)", "encode(latents, streams, stats)"),
    Mutant("fusion/perceiver.py", "encode(latents, marked, stats)", "encode(latents, marked[:1], stats)"),
    Mutant("fusion/perceiver.py", "latents, _ = process", "_, _ = process"),
    Mutant("fusion/adapter.py", "torch.zeros(())", "torch.ones(())", STARTS),
    Mutant("fusion/adapter.py", "latents.with_values(latents.values + update)", "latents.with_values(update)"),
    Mutant("fusion/adapter.py", "torch.where(other.present[:, None, None], change, 0.0)", "change"),
    Mutant("fusion/adapter.py", "[(OTHER[stream], y)], frozenset()", "[(OTHER[stream], x)], frozenset()"),
    Mutant("fusion/hierarchical.py", ", exempt=MODALITIES", "", WINDOW),
    Mutant("fusion/hierarchical.py", "weight = grouped.keep.to(", "weight = torch.ones_like(grouped.keep).to("),
    Mutant("fusion/hierarchical.py", "grouped.values + learned", "grouped.values"),
    Mutant("fusion/hierarchical.py", "torch.where(keep, times, torch.inf).amin", "times.amin"),
    Mutant("fusion/hierarchical.py", "centre = (times * _share", "centre = 0 * (times * _share"),
    Mutant("fusion/hierarchical.py", "summaries, summaries, stats", "summaries, summaries[:1], stats"),
    Mutant("fusion/recurrent.py", "torch.where(merged.keep, merged.times, torch.inf)", "merged.times"),
    Mutant("fusion/recurrent.py", "with_values(self.norm(tokens.values) + self", "with_values(tokens.values + self"),
    Mutant("fusion/recurrent.py", "zeroed(tokens.values + part, tokens)", "zeroed(part, tokens)"),
    Mutant("encoders/pretrained/frames.py", "dim), nn.LayerNorm(dim))", "dim))", PROJECTED),
    # order and windows do not bind exempt tokens
    Mutant("attention/patterns/sparse.py", " or name in geometry.exempt", "", f"{REACH} -k sliding"),
    Mutant(GATED, "if exempt_q is not None:", "if False:", EXEMPT),
    Mutant(GATED, "if exempt_k is not None:\n            found", "if False:\n            found", EXEMPT),
    Mutant("attention/hierarchical/coarse_fine.py", "exempt_flags(q)) is None:", "exempt_flags(q)) or True:", EXEMPT),
    Mutant("attention/order.py", "if exempt is not None:", "if False:", f"{EXEMPT} -k gru"),
    Mutant("config/overrides.py", 'if "attention" not in fusion:', "if False:", f"{REACH} -k 'takes or says'"),
]  # fmt: skip


def survives(mutant: Mutant, tree: Path) -> bool:
    """Whether the tests pass with the fault in. They run in a fork, which imports mmattn itself."""
    file = tree / "src" / "mmattn" / mutant.file
    text = file.read_text(encoding="utf-8")
    if mutant.old not in text:
        raise SystemExit(f"{mutant.file} has no {mutant.old!r}: bring this list up to date")
    file.write_text(text.replace(mutant.old, mutant.new, 1), encoding="utf-8")
    if not (child := os.fork()):
        ended = 3
        try:
            ended = _tests(mutant.to_run, tree)
        finally:
            os._exit(ended)  # nothing of the parent's is cleared away
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    file.write_text(text, encoding="utf-8")
    if status not in (0, 1, 2):  # passed; failed; or could not even be collected
        raise SystemExit(f"pytest {mutant.to_run} ended with {status}")
    return status == 0


def _tests(options: str, tree: Path) -> int:
    import pytest

    os.chdir(tree)
    os.environ["PYTHONPATH"] = str(tree / "src")
    sys.path.insert(0, str(tree / "src"))
    sys.dont_write_bytecode = True  # a fault may be put in and taken out within one tick of the clock
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        return int(pytest.main([*shlex.split(options), "-x", "-q", "-p", "no:cacheprovider"]))


def main(words: list[str]) -> int:
    for slow in ("torch", "torchvision", "torchaudio", "pytest"):  # once, for all forks
        importlib.import_module(slow)
    chosen = [m for m in MUTANTS if not words or any(word in f"{m.file} {m.old} {m.new}" for word in words)]
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for name in ("src", "tests", "conf"):
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", tree)
        for mutant in chosen:
            alive = survives(mutant, tree)
            survivors += alive
            print(f"{'SURVIVES' if alive else 'killed'}  {mutant.file}: {mutant.old!r} -> {mutant.new!r}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
