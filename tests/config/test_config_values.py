"""Overrides: a value that a key does not take is one line that names the key."""

from __future__ import annotations

import pytest
import yaml
from config_cases import CHOICES, NEEDED, VERBS

from mmattn.config.compose import compose, conf_dir
from mmattn.config.kinds import check_kinds, kind_of
from mmattn.config.overrides import GROUPS
from mmattn.errors import UsageError


@pytest.mark.parametrize("verb", VERBS)
def test_every_plain_key_of_a_verb_can_be_set(verb: str) -> None:
    """Hydra takes `data=x` for a group wherever a group has that name, so no plain key may bear one."""
    config = compose(verb, NEEDED.get(verb, []))
    assert not [key for key, value in config.items() if key in GROUPS and not isinstance(value, dict | None)]


@pytest.mark.parametrize(
    ("verb", "overrides", "says"),
    [
        ("train", ["optim.rl=1"], "optim.lr"),
        ("train", ["sede=1"], "seed"),
        ("train", ["data.clip.fsp=1"], "data.clip.fps"),
        ("train", ["fusion=lat"], "late"),
        ("train", ["fusion="], "expected one of adapter, bottleneck"),
        ("train", ["data=null"], "folder"),
        ("train", ["fusion=null"], "late"),
        ("train", ["fusion=late,cross"], "mmattn train -m fusion=late,cross"),
        ("train", ["optim.lr=1e-3,1e-2"], "mmattn train -m optim.lr=1e-3,1e-2"),
        ("train", ["optim.lr=interval(0,1)"], "mmattn train -m optim.lr"),
        ("train", ["+nonsense.key=3"], "nonsense.key: no such key"),
        ("train", ["+optmi.lr=3"], "optim"),
        ("train", ["++sede=3"], "seed"),
        ("train", ["+trainer.nonsense=3"], "trainer.nonsense: no such key"),
        ("train", ["~optim.lr"], "set it to another value"),
        ("train", ["hydra.run.dir=x"], "run=DIR"),
        ("train", ["hydra/launcher=joblib"], "launcher=local"),
        ("train", ["+hydra.nonsense=1"], "no hydra section"),
        ("train", ["optim.lr=fast"], "number"),
        ("train", ["fusion.layers=true"], "fusion.layers"),
        ("train", ["logger.online=2"], "true or false"),
        ("train", ["data.clip=5"], "expected settings, such as data.clip."),
        ("predict", ["run=r", "source=s", "views=5"], "views.crops"),
        ("predict", ["run=r", "source=s", "views=null"], "views.crops"),
        ("train", ["optim.lr="], "number"),
        ("train", ["data.clip.seconds=nan"], "number"),
        ("train", ["late"], "key=value"),
        ("train", ["optim.lr=[1"], "["),
        ("train", ["data=folder"], "data.root"),
        ("predict", [], "source"),
        ("predict", ["run=r"], "source"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(verb: str, overrides: list[str], says: str) -> None:
    with pytest.raises(UsageError) as error:
        compose(verb, overrides)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


OTHER_KINDS = {
    "number": ["abc", "{a: 1}", "[a,b]", "true", "null"],
    "switch": ["3", "{a: 1}", "[a,b]", "null"],
    "text": [],  # whatever is typed is text
    "list": ["3", "{a: 1}"],
    "settings": ["3", "[a,b]"],
}


def _kinds_by_key(node: dict, prefix: str = "") -> list[tuple[str, str]]:
    found = []
    for name, value in node.items():
        key = f"{prefix}.{name}" if prefix else str(name)
        if isinstance(value, dict):
            found += [(key, "settings")] * (not prefix or "_target_" not in value) + _kinds_by_key(value, key)
        elif isinstance(value, bool):
            found.append((key, "switch"))
        elif isinstance(value, (int, float)):
            found.append((key, "number"))
        elif isinstance(value, list) and not all(isinstance(each, str) for each in value):
            found.append((key, "list"))
        elif value is None and (kind := kind_of(key)) in ("number", "switch", "settings"):
            found.append((key, kind))
    return found


@pytest.mark.parametrize("verb", VERBS)
def test_every_key_of_every_verb_refuses_a_value_of_another_kind_by_name(verb: str) -> None:
    config = compose(verb, NEEDED.get(verb, []))
    for key, kind in _kinds_by_key(config):
        for text in OTHER_KINDS[kind]:
            if (value := yaml.safe_load(text)) is None and _at(config, key) is None:
                continue
            with pytest.raises(UsageError) as error:
                check_kinds(config, _with(config, key.split("."), value))
            assert str(error.value).startswith(key.removeprefix("annotator.")), (key, value, str(error.value))
            assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "given",
    [
        *("data.clips={train: 16}", "trainer.epochs=[1,2]", "optim.lr={a: 1}", "data.augment.sound.snr_db=3"),
        *("data.augment.sound.snr_db={a: 1}", "visual.widths=8", "data.clip.seconds=true", "data.isolated=1"),
        *("fusion.heads=[4]", "data.clips_per_epoch=many", "optim.fused=3", "data.clip.resize=big"),
    ],
)
def test_what_is_typed_of_another_kind_is_one_line_that_begins_with_the_key(given: str) -> None:
    with pytest.raises(UsageError, match=rf"^{given.partition('=')[0]}\S*=") as error:
        compose("train", [given])
    assert "\n" not in str(error.value)


def test_one_name_stands_for_a_list_of_one() -> None:
    assert compose("predict", ["run=r", "source=s", "modalities=video"])["modalities"] == ["video"]
    assert compose("demo", ["fusions=late"])["fusions"] == ["late"]
    assert compose("predict", ["run=r", "source=s", "annotators=[speech,text]"])["annotators"] == ["speech", "text"]


def _with(node: dict, path: list[str], value: object) -> dict:
    first, *rest = path
    return {**node, first: _with(node[first], rest, value) if rest else value}


def _at(node: dict, key: str) -> object:
    for part in key.split("."):
        node = node[part]
    return node


def test_every_key_without_a_default_has_a_known_kind() -> None:
    for group, name in [*CHOICES, *((None, verb) for verb in VERBS)]:
        path = conf_dir() / (group or "") / f"{name}.yaml"
        for key in _unset(yaml.safe_load(path.read_text(encoding="utf-8")) or {}):
            assert kind_of(f"{group}.{key}") or key in GROUPS, (
                f"{path.name}: {key}; add it to a table of mmattn.config.kinds"
            )


def _unset(node: dict, prefix: str = "") -> list[str]:
    found = []
    for name, value in node.items():
        key = f"{prefix}.{name}" if prefix else str(name)
        found += _unset(value, key) if isinstance(value, dict) else [key] * (value is None)
    return found


def test_a_key_that_follows_from_another_is_of_its_kind() -> None:
    with pytest.raises(UsageError, match=r"fusion\.dim=abc: expected a number, such as 96"):
        compose("train", ["fusion.dim=abc"])


def test_what_has_to_be_set_is_named_with_its_key() -> None:
    for given, key in ([["data=folder"], "data.root"], [["data=folder", "task=prompted", "data.root=d"], "task."]):
        with pytest.raises(UsageError, match=rf"^{key}\S* is not set; add {key}\S*="):
            compose("train", given)


def test_near_names_are_named_once() -> None:
    with pytest.raises(UsageError) as error:
        compose("train", ["batch_size=3"])
    named = str(error.value).partition("did you mean ")[2].rstrip("?").split(" or ")
    assert len(named) == len(set(named))
