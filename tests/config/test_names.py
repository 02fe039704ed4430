"""Names of files, folders and labels are text for every verb, whatever they look like."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmattn.config.compose import compose, conf_dir
from mmattn.config.names import Placeholders, as_text, choices, is_name, joined, split
from mmattn.config.overrides import default_of
from mmattn.errors import UsageError
from mmattn.files import expanded, matching
from mmattn.training.sweep import grid
from mmattn.training.sweep.space import parsed_sweep

NASTY = (
    *("José#1&2.mp4", "[2024] x.mp4", "{x}", "true", "1e3", "a=b", "a,b", "$HOME", "~", "~x", "100%", "back\\slash\\"),
    *("🎬 é", " lead, trail ", "caf\udce9", 'it\'s "q"!', "new\nline", "a:b", "${x}", "'q'", "???", "*", "(a)", "-x"),
    *(
        "<b>&amp;",
        "",
        "inf",
        "off",
        "a.b=c",
        "++x",
        "~del",
        "\\'",
        "'",
        '"',
        "\\",
        "#",
        "[a,b]",
        "range(1,3)",
        "\u202e",
    ),
)
# Which keys of each verb take a name, and what else it needs.
VERBS: dict[str, tuple[list[str], list[str]]] = {
    "train": (["data.root", "run", "resume", "init_from", "visual.pretrained"], ["data=folder", "visual=resnet"]),
    "predict": (["run", "source", "out", "job", "tracks", "burn_in", "weights", "prompts"], []),
    "evaluate": (["run", "out"], []),
    "explain": (["run", "source", "out", "tag"], []),
    "compare": (["sweep", "out", "predictions", "baseline", "metric"], []),
    "dashboard": (["sweep", "out", "project", "name", "entity"], []),
    "demo": (["out", "videos", "files"], []),
    "doctor": (["folder"], []),
    "search": (["library", "query", "index"], []),
    "browse": (["library", "out"], []),
    "data_check": (["source", "out"], []),
    "data_shard": (["data.root", "out", "data.source.manifest", "data.source.checked"], []),
    "data_features": (["run", "data.root", "out"], []),
    "data_prompts": (["tags", "pretrained", "out"], []),
    "data_manifest": (["data.root", "out", "data.source.annotations", "data.source.csv"], ["data=vggsound"]),
}
# Keys without a default that hold something else than a name.
OTHERS = (
    "threshold span_step_s decoding deadline_s clips_per_epoch cut grid size state length_decay normalize "
    "preprocessing architecture options hdr deinterlace height width fit resample resize encoder_lr layer_decay fused "
    "keep_by keep_mode profile peak_tflops warn_s setup srun min_nodes system seconds step_s"
).split()


def a_name(rng: random.Random) -> str:
    """Whatever a file may be called on Linux, ordinary characters and those of grammars more often than others."""
    kinds = (
        lambda: rng.choice("abzA09_./+- "),
        lambda: rng.choice("[]{}()'\"\\,=$~#&!%:;@*?|<>^`\n\t"),
        lambda: chr(rng.randrange(0x80, 0x3000)),
        lambda: chr(rng.randrange(0x1F300, 0x1FAFF)),
        lambda: chr(rng.randrange(0xDC80, 0xDD00)),  # a byte that is not UTF-8
        lambda: rng.choice(["true", "null", "1e3", "${", "???", "0x1", "inf", "range(", "é"]),
    )
    return "".join(rng.choice(kinds)() for _ in range(rng.randrange(1, 12)))


def names(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    return [*NASTY, *(name for name in (a_name(rng) for _ in range(count)) if name != "null")]


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_names_reach_a_verb_as_they_were_typed(verb: str) -> None:
    keys, others = VERBS[verb]
    typed = [name for name in names(sum(map(ord, verb)), 8 * len(keys)) if name]
    for at in range(0, len(typed), len(keys)):
        given = dict(zip(keys, typed[at:], strict=False))
        needed = {"run": "r", "source": "s", "out": "o", "data.root": "d", "tags": "t", "pretrained": "p"}
        base = [f"{key}={value}" for key, value in needed.items() if key in keys and key not in given]
        config = compose(verb, [*others, *base, *(f"{key}={name}" for key, name in given.items())])
        lists = [key for key in given if key == "files" and given[key][:1] == "[" and given[key][-1:] == "]"]
        found = {key: default_of(config, key) for key in given}
        assert {k: v for k, v in found.items() if k not in lists} == {k: v for k, v in given.items() if k not in lists}
        if "data.root" in given:
            assert config["data"]["source"]["root"] == given["data.root"]


@pytest.mark.parametrize(("verb", "key"), [("predict", "source"), ("train", "run"), ("compare", "out")])
def test_an_empty_name_is_refused(verb: str, key: str) -> None:
    needed = ["run=r", "source=s"] if verb == "predict" else []
    with pytest.raises(UsageError, match=rf"^{key}= is empty: expected a name"):
        compose(verb, [*needed, f"{key}="])


def test_thousands_of_names_are_put_where_they_belong() -> None:
    stand_ins, typed = Placeholders(), names(7, 5000)
    keys = [stand_ins.of(name) for name in typed]
    assert all(key.isalnum() for key in keys), "nothing of Hydra's grammar"
    node = {"a": list(keys), "b": {key: [f"{key}/x"] for key in keys[:9]}}
    put = stand_ins.replace(node)
    assert put["a"] == typed
    assert [value for (value,) in put["b"].values()] == [f"{name}/x" for name in typed[:9]]
    for name in typed:
        assert as_text("source", name, "???") == as_text("run", name, "???") == name
        assert as_text("out", name, None) == name


def test_null_leaves_out_what_may_be_left_out_and_is_a_name_where_one_is_needed() -> None:
    config = compose("predict", ["run=null", "source=null", "out=null"])
    assert (config["run"], config["source"], config["out"]) == (None, "null", None)
    assert compose("predict", ["run=./null", "source=s"])["run"] == "./null"


def test_lists_of_names_keep_numbers_commas_in_quotes_and_braces() -> None:
    assert split("a, 'b, c',\"d'\" , José#1,[x] y,'it''s'") == ["a", "b, c", "d'", "José#1", "[x] y", "'it''s'"]
    assert compose("compare", ["runs=[José#1, 2024,'a,b']"])["runs"] == ["José#1", "2024", "a,b"]
    assert compose("compare", ["runs=[2024] x/*"])["runs"] == "[2024] x/*"
    assert compose("demo", ["files=[true, x y.mp4]", "fusions=[late]"])["files"] == ["true", "x y.mp4"]
    media = ["data=vggsound", "data.root=d", "out=o", "data.source.media=['{id}, {start:06d}', {id}]"]
    assert compose("data_manifest", media)["data"]["source"]["media"] == ["{id}, {start:06d}", "{id}"]


def test_a_list_that_is_written_is_read_as_the_same_names() -> None:
    chance = random.Random(0)
    for _ in range(2000):
        drawn = ["".join(chance.choices("ab,'\"[]{}= \\é", k=chance.randint(1, 6))) for _ in range(3)]
        given = [name.rstrip("\\") or "x" for name in drawn]
        assert split(joined(given)[1:-1]) == given, given
    runs = ["runs/a,b=c 'd'", 'runs/"e"']
    assert compose("compare", [f"runs={joined(runs)}"])["runs"] == runs


def test_the_grammar_stays_where_no_name_is_meant() -> None:
    found = compose("train", ["visual.widths=[8,8,16]", "optim.lr=1e-3", "++seed=3", "trainer.precision=32"])
    assert (found["visual"]["widths"], found["optim"]["lr"], found["seed"]) == ([8, 8, 16], 1e-3, 3)
    assert found["trainer"]["precision"] == "32"
    decoding = compose("predict", ["run=r", "source=s", "decoding={method: greedy, no_repeat_ngram: 3}"])["decoding"]
    assert decoding == {"method": "greedy", "no_repeat_ngram": 3}
    for wrong in ("optim.lr=José#1", "optim.lr=1,2", "heads=[", "sede=José", "Jos#é=1", "+Jos#é=1", "José"):
        with pytest.raises(UsageError) as error:
            compose("train", [wrong])
        assert "Lexer" not in str(error.value) and "\n" not in str(error.value)


def test_every_key_without_a_default_is_a_name_or_known_to_be_none() -> None:
    def walk(node: Any, prefix: str = "") -> list[tuple[str, Any]]:
        if not isinstance(node, dict):
            return [(prefix, node)]
        return [one for key, value in node.items() for one in walk(value, f"{prefix}.{key}" if prefix else str(key))]

    for file in conf_dir().rglob("*.yaml"):
        inside = "" if file.parent == conf_dir() else f"{file.parent.name}."
        for key, value in walk(yaml.safe_load(file.read_text(encoding="utf-8")) or {}):
            if value in (None, "???") and "defaults" not in key and "-" not in key:
                assert is_name(inside + key) or key.rpartition(".")[2] in OTHERS, f"{file.name}: {key}"


def test_commas_still_separate_the_points_of_a_sweep() -> None:
    assert choices("data.root=José#1,b c") == ["data.root=José#1", "data.root=b c"]
    assert choices("data.root='a,b',c") == ["data.root=a,b", "data.root=c"]
    _, points = grid.plan(["data=folder", "data.root=José#1,'[2024], x'", "seed=0,1", "sweep=s,t"])
    assert [point.overrides[1:3] for point in points] == [
        (f"data.root={root}", f"seed={seed}") for root in ("José#1", "[2024], x") for seed in (0, 1)
    ]
    found = parsed_sweep("data.root=1e3,true")
    assert found and found.values == ("1e3", "true")
    assert parsed_sweep("data.root=José#1") is None


@pytest.mark.parametrize("name", ["my work", "José#1&2%, x"])
def test_a_conf_of_ones_own_may_lie_anywhere(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / name / "fusion"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("_target_: mmattn.fusion.late.LateFusion\ndim: ${dim}\nlayers: 5\n")
    monkeypatch.setenv("MMATTN_CONFIG_DIR", str(tmp_path / name))
    assert compose("train", ["fusion=mine"])["fusion"]["layers"] == 5


def test_a_tilde_is_home_only_where_nothing_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert expanded("~/x") == Path.home() / "x"
    assert expanded("~no such user.mp4") == Path("~no such user.mp4")
    Path("~").mkdir()
    assert expanded("~") == Path("~")


def test_a_pattern_below_a_folder_with_brackets_finds_what_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "[2024] *"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4", "[c].mp4"):
        (folder / name).touch()
    assert matching(f"{folder}/[ab].mp4") == [folder / "a.mp4", folder / "b.mp4"]
    assert len(matching(f"{tmp_path}/**/*.mp4")) == 3
