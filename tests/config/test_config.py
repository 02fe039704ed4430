"""Configs: everything in conf/ composes and builds; the user's own configs come first."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from config_cases import CHOICES, NEEDED, OWN, VERBS
from safetensors.torch import save_file

from mmattn.config.compose import Composer, build, compose, conf_dir, group_choices, read_choice
from mmattn.config.folders import CONFIG_DIR
from mmattn.config.overrides import GROUPS, OPTIONAL
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.errors import UsageError
from mmattn.model import build_captioner


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


def test_a_folder_named_by_a_number_stays_a_name() -> None:
    config = compose("predict", ["run=2024", "source=007"])
    assert (config["run"], config["source"]) == ("2024", "007")


@pytest.mark.parametrize(
    "name",
    ["a/00[1-3].mp4", "v/**/*.mp4", "x{1}.mp4", "a=b.mp4", "~/videos", "\u00fc [x] (1), it's.mp4", "img%d.png", "a\\b"],
)
def test_file_names_and_patterns_need_no_quoting(name: str) -> None:
    assert compose("predict", ["run=r", f"source={name}"])["source"] == name
