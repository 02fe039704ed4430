"""Configs: everything in conf/ composes and builds; every mistake is one line; nothing else can be built."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from mmattn.config.compose import Composer, build, check_spec, compose, conf_dir, group_choices, read_choice
from mmattn.config.folders import CONFIG_DIR
from mmattn.config.kinds import check_kinds, kind_of
from mmattn.config.overrides import GROUPS, OPTIONAL
from mmattn.config.targets import TRUST, check_trust, environment
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.errors import UsageError
from mmattn.model import build_captioner

CHOICES = [(group, name) for group in GROUPS for name in group_choices(group)]
VERBS = sorted(path.stem for path in conf_dir().glob("*.yaml"))
NEEDED = {"predict": ["run=r", "source=s"], "evaluate": ["run=r"], "compare": ["runs=[r]"]}
NEEDED |= {"data_check": ["source=s"], "data_shard": ["data.root=d", "out=o"]}
NEEDED |= {"explain": ["run=r", "source=s"]}
NEEDED |= {"data_features": ["run=r", "data.root=d", "out=o"]}
NEEDED |= {"data_manifest": ["data.root=d", "out=o.jsonl"]}
NEEDED |= {"data_label": ["from=l.jsonl"]}
NEEDED |= {"data_prompts": ["tags=t.txt", "pretrained=p", "out=o.safetensors"]}


def _parts(config: dict) -> list[tuple[str, dict]]:
    """The nodes that are to be built, outermost only."""
    found = []
    for key, value in config.items():
        if isinstance(value, dict):
            found += [(key, value)] if "_target_" in value else _parts(value)
    return found


def _embeddings(vocabulary: TagVocabulary, folder: pytest.TempPathFactory) -> Path:
    path = folder.mktemp("text") / "tags.safetensors"
    save_file({name: torch.randn(6) for name in vocabulary.names}, path)
    return path


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_choice_composes_and_builds(
    group: str,
    name: str,
    tmp_path: Path,
    vocabulary: TagVocabulary,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    monkeypatch.chdir(tmp_path)
    of_predict = group in ("engine", "format")
    verb, needed = ("predict", NEEDED["predict"]) if of_predict else ("train", [f"data.root={tmp_path}"])
    needed += [f"task.pretrained={_embeddings(vocabulary, tmp_path_factory)}"] if name == "prompted" else []
    config = compose(verb, [f"{group}={name}", *needed])
    wanted = conf_dir() / group / f"{name}.yaml"
    assert wanted.is_file()
    parts = [(part, spec) for part, spec in _parts(config) if spec not in config.get("annotator", {}).values()]
    assert len(parts) >= (2 if of_predict else 8)
    for part, spec in parts:
        if part == "captions":
            built = build_captioner(spec, build(spec["tokenizer"], captions=["a dog barks"]))
        else:
            built = build(spec, vocabulary=vocabulary) if part == "task" else build(spec)
        assert built is not None
    assert not list(tmp_path.iterdir()), "building reads and writes nothing"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_composes(verb: str) -> None:
    config = compose(verb, NEEDED.get(verb, []))
    assert "???" not in str(config)
    assert "${" not in str(config)


def test_one_name_sets_all_that_follow_from_it() -> None:
    config = compose("train", ["dim=24", "seed=7", "data.root=here"])
    assert {config[part]["dim"] for part in ("visual", "audio", "fusion", "task")} == {24}
    assert config["data"]["seed"] == 7
    assert config["data"]["source"]["root"] == "here"


def test_a_number_that_follows_from_another_stays_a_number_when_it_is_set() -> None:
    assert compose("train", ["data.root=d", "fusion.heads=2"])["fusion"]["heads"] == 2


def test_an_experiment_changes_what_it_names_and_can_itself_be_overridden() -> None:
    config = compose("train", ["experiment=spoken_words", "data.root=d", "trainer.epochs=2"])
    assert config["data"]["source"]["_target_"].endswith("FolderSource")
    assert config["data"]["clip"]["fps"] == 12.5
    assert config["trainer"]["epochs"] == 2


OWN = "_target_: mmattn.fusion.late.LateFusion\ndim: ${dim}\nlayers: 5\n"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of configs that the user named."""
    folder = tmp_path / "my work"
    (folder / "fusion").mkdir(parents=True)
    monkeypatch.setenv(CONFIG_DIR, str(folder))
    return folder


def test_configs_of_ones_own_come_first(own: Path) -> None:
    (own / "fusion" / "mine.yaml").write_text(OWN)
    (own / "fusion" / "concat.yaml").write_text(OWN)
    assert "mine" in group_choices("fusion")
    assert compose("train", ["fusion=mine"])["fusion"]["layers"] == 5
    assert compose("train", ["fusion=concat"])["fusion"] == read_choice("fusion", "concat") | {"dim": 96}
    assert "heads" in compose("train", ["fusion=cross"])["fusion"]


def test_a_train_config_of_ones_own_goes_on_from_ours(own: Path) -> None:
    (own / "mine.yaml").write_text("defaults: [train, {override fusion: late}, _self_]\ndim: 32\n")
    config = compose("mine", ["data.root=d"])
    assert config["fusion"]["_target_"].endswith("LateFusion") and config["fusion"]["dim"] == 32


def test_a_conf_in_the_working_directory_is_somebody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "conf" / "fusion"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(OWN)
    (folder / "cross.yaml").write_text(OWN)
    (tmp_path / "conf" / "train.yaml").write_text("x: 1\n")
    before = compose("train", ["data.root=d"])
    monkeypatch.chdir(tmp_path)
    assert compose("train", ["data.root=d"]) == before and "mine" not in group_choices("fusion")


def test_a_folder_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONFIG_DIR, "nowhere")
    with pytest.raises(UsageError, match="--config-dir nowhere: no such folder"):
        compose("train")


def test_groups_are_those_of_conf() -> None:
    """A folder of conf/ that no verb chooses from has no group, and every folder has its place here."""
    folders = {path.name for path in conf_dir().iterdir() if any(path.glob("*.yaml"))}
    assert folders - set(GROUPS) == {"annotator"} and set(GROUPS) <= folders
    chosen = compose("train", ["data.root=d"])
    assert set(OPTIONAL) == {group for group in GROUPS if group not in chosen and group not in ("engine", "format")}


@pytest.mark.parametrize("group", OPTIONAL)
def test_an_optional_group_may_be_left_out(group: str) -> None:
    assert compose("train", [f"{group}=null"]) == compose("train")


def test_a_group_that_an_experiment_chose_may_be_left_out() -> None:
    assert compose("train", ["experiment=msrvtt_captions", "data.root=d"]).get("captions")
    without = compose("train", ["experiment=msrvtt_captions", "data.root=d", "captions=null", "task=tagging"])
    assert not without.get("captions") and without["task"]["_target_"].endswith("Tagging")


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
        ("train", ["fusion="], "did you mean adapter or bottleneck"),
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


def test_what_is_composed_many_times_is_read_once_for_each_choice() -> None:
    composer = Composer("train")
    for seed in range(3):
        for fusion in ("late", "cross"):
            wanted = ["data.root=d", f"fusion={fusion}", f"seed={seed}", "optim.lr=0.5"]
            assert composer.compose(wanted) == compose("train", wanted)
    assert composer.loaded == 2


def test_an_optional_group_goes_as_hydra_takes_it_away() -> None:
    given = ["experiment=msrvtt_captions", "data.root=d", "task=tagging"]
    assert compose("train", [*given, "~captions"]) == compose("train", [*given, "captions=null"])


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
            assert str(error.value).startswith(f"{key}"), (key, value, str(error.value))
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


def test_a_folder_named_by_a_number_stays_a_name() -> None:
    config = compose("predict", ["run=2024", "source=007"])
    assert (config["run"], config["source"]) == ("2024", "007")


TRAP = "import pathlib; pathlib.Path({mark!r}).touch()\ndef call(*args, **kwargs): pathlib.Path({mark!r}).touch()\n"


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An importable module `trap` that leaves a mark when it is imported or called; returns the mark's path."""
    mark = tmp_path / "mark"
    (tmp_path / "trap.py").write_text(TRAP.format(mark=str(mark)))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield mark
    sys.modules.pop("trap", None)


def test_the_trap_works(trap: Path) -> None:
    from hydra.utils import instantiate

    instantiate({"_target_": "trap.call"})
    assert trap.is_file()


@pytest.mark.parametrize(
    "place",
    [
        lambda target: {"_target_": target},
        lambda target: {"_target_": "mmattn.data.manifest.sources.FolderSource", "root": {"_target_": target}},
        lambda target: {"_target_": "mmattn.data.manifest.sources.FolderSource", "root": [1, {"_target_": target}]},
        lambda target: {"_target_": "mmattn.data.manifest.sources.FolderSource", "_args_": [{"_target_": target}]},
        lambda target: {"_target_": target, "_partial_": True},
        lambda target: {"_target_": [target]},
        lambda target: {"_target_": {"_target_": target}},
        lambda target: {"a": {"b": {"_target_": target}}},
    ],
    ids=["top", "argument", "list", "positional", "partial", "in a list", "nested", "deep"],
)
def test_a_target_outside_conf_is_refused_before_it_is_imported(place, trap: Path) -> None:
    with pytest.raises(UsageError, match=r"trap\.call.*may not be built"):
        build(place("trap.call"))
    assert not trap.exists()
    assert "trap" not in sys.modules


def test_a_target_that_the_users_configs_name_may_be_built(trap: Path, own: Path) -> None:
    (own / "fusion" / "trap.yaml").write_text("a: [{_target_: trap.call}]\n")
    build({"_target_": "trap.call"})
    assert trap.is_file()


def test_trust_is_for_the_classes_that_a_package_defines(
    tmp_path: Path, trap: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("import trap\nfrom trap import call\nclass Own: pass\nclass_of = lambda: 1\n")
    spec = {"_target_": "mine.Own"}
    with pytest.raises(UsageError, match="add trust=mine"):
        build(spec)
    with environment(**{TRUST: check_trust(["mine"])}):
        assert type(build(spec)).__name__ == "Own"
        trap.unlink()  # what was imported with it
        for other in ("mine.call", "mine.trap.call", "mine.class_of", "mine.Missing", "trap.call"):
            with pytest.raises(UsageError, match=r"may not be built|cannot be imported"):
                build({"_target_": other})
    with pytest.raises(UsageError, match="add trust=mine"):
        build(spec)
    assert not trap.exists()


@pytest.mark.parametrize("package", ["os", "mmattn", "a.b", "", "builtins"])
def test_what_is_no_package_of_somebodys_cannot_be_trusted(package: str) -> None:
    with pytest.raises(UsageError, match="installed package"):
        check_trust([package])


def test_a_package_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match="needs the package not_here, which is not installed"):
        build({"_target_": "not_here.Fusion"})


@pytest.mark.parametrize(
    "target",
    [
        "torch.load",
        "os.system",
        "builtins.exec",
        "builtins.eval",
        "numpy.load",
        "subprocess.run",
        "mmattn.config.compose.os.system",
        "mmattn.checkpoint.os.system",
        "pathlib.Path.write_text",
        "mmattn.fusion.late",
        "mmattn.fusion.late.LateFusion.__init__",
        "mmattn.fusion.late.LateFusion ",
        "mmattn.files.write_atomically",
        "",
        None,
        3,
    ],
)
def test_known_ways_out_are_refused(target: object) -> None:
    with pytest.raises(UsageError, match="may not be built"):
        build({"_target_": target, "path": "x"})


@pytest.mark.parametrize("value", ["${oc.env:HOME}", "a${oc.env:HOME}", "${other}", "${oc.create:{a:1}}"])
def test_a_spec_refers_to_nothing_outside_itself(value: str) -> None:
    spec = {"_target_": "mmattn.data.manifest.sources.FolderSource", "root": value, "other": 1}
    with pytest.raises(UsageError, match="outside the config"):
        check_spec(spec)
    with pytest.raises(UsageError, match="outside the config"):
        build(spec)


@pytest.mark.parametrize(
    "spec",
    [
        {"_target_": "mmattn.data.manifest.sources.FolderSource"},
        {"_target_": "mmattn.data.manifest.sources.FolderSource", "root": "???"},
        {"_target_": "mmattn.data.manifest.sources.FolderSource", "root": "a", "rot": 1},
        {"_target_": "mmattn.data.prepare.clips.ClipSpec", "seconds": -1},
        {"_target_": "mmattn.fusion.late.LateFusion", "dim": 6, "heads": 4, "attention": None},
        "mmattn.data.manifest.sources.FolderSource",
        None,
        [],
        3,
        {},
    ],
    ids=str,
)
def test_a_spec_that_does_not_fit_is_a_usage_error(spec: object) -> None:
    with pytest.raises(UsageError) as error:
        build(spec)
    assert "\n" not in str(error.value)


def test_a_wrong_value_beside_given_objects_is_a_usage_error(vocabulary: TagVocabulary) -> None:
    with pytest.raises(UsageError, match="Tagging"):
        build({"_target_": "mmattn.tasks.tagging.tagging.Tagging", "dim": -3}, vocabulary=vocabulary)


@pytest.mark.parametrize(
    "name",
    ["a/00[1-3].mp4", "v/**/*.mp4", "x{1}.mp4", "a=b.mp4", "~/videos", "\u00fc [x] (1), it's.mp4", "img%d.png", "a\\b"],
)
def test_file_names_and_patterns_need_no_quoting(name: str) -> None:
    assert compose("predict", ["run=r", f"source={name}"])["source"] == name
