"""Values out of the range of their key, or none of its choices, are refused before anything is built."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from config_cases import CHOICES, NEEDED, VERBS

from mmattn.config.allowed import check_allowed, choices_of, range_of
from mmattn.config.choices import CHOICES as NAMES
from mmattn.config.compose import Composer, compose
from mmattn.config.kinds import kind_of
from mmattn.config.overrides import leaves
from mmattn.config.ranges import RANGES, Range
from mmattn.errors import UsageError

TRAIN = Composer("train")


def _numbers(name: str, config: dict[str, Any]) -> Iterator[str]:
    """The keys of a config that take numbers, without places in lists."""
    for path, value in leaves(config):
        key = ".".join(part for part in path.split(".") if not part.isdigit())
        unset = value is None and kind_of(key) in ("number", "number or list")
        if unset or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            yield f"{name}.{key}"


def _without_range(name: str, config: dict[str, Any]) -> list[str]:
    keys = (key for key in _numbers(name, config) if ".architecture." not in key and not key.startswith("train.grid."))
    return [key for key in keys if range_of(key) is None]


@pytest.mark.parametrize("verb", VERBS)
def test_every_number_of_every_verb_has_a_range(verb: str) -> None:
    assert _without_range(verb, compose(verb, NEEDED.get(verb, []))) == []


@pytest.mark.parametrize(("group", "name"), [case for case in CHOICES if case[0] not in ("engine", "format")])
def test_every_number_of_every_choice_has_a_range_and_is_in_it(group: str, name: str) -> None:
    assert _without_range("train", TRAIN.compose([f"{group}={name}"], resolve=False, whole=False)) == []


@pytest.mark.parametrize("engine", ["slurm", "ray"])
def test_every_number_of_an_engine_has_a_range(engine: str) -> None:
    assert _without_range("predict", compose("predict", [f"engine={engine}", "run=r", "source=s"])) == []


@pytest.mark.parametrize(
    ("verb", "given"),
    [
        *(("train", text) for text in ("trainer.epochs=0", "optim.lr=-1", "optim.lr=inf", "dropout=1.5", "dim=-96")),
        *(("train", text) for text in ("heads=0", "data.clip.fps=0", "seed=-1", "trainer.devices=-1")),
        *(("train", text) for text in ("data.augment.modality_dropout=2", "visual.kernel=-1", "fusion.layers=0")),
        *(("train", text) for text in ("optim.layer_decay=0", "data.max_bad_fraction=7", "task.label_smoothing=1")),
        *(("predict", text) for text in ("threshold=3", "batch_size=0", "deadline_s=-1", "span_step_s=0")),
        *(("predict", text) for text in ("annotator.things.threshold=-4", "engine.workers=-1", "shard_files=0")),
        *(("evaluate", text) for text in ("views.crops=2", "views.spans=0", "noise.snr_db=inf")),
        *(("explain", text) for text in ("masks=1", "tags=0", "height=8", "deadline_s=0")),
        *(("train", text) for text in ("trainer.precision=bf17", "task.class_weights=x", "data.span=x", "budget=time")),
        *(("train", text) for text in ("visual.tokens=x", "data.clip.hdr=x", "sweep.evaluate=x", "trainer.profile=x")),
        *(
            ("evaluate", "split=x"),
            ("evaluate", "noise.kind=brown"),
            ("predict", "precision=8"),
            ("compare", "evaluate=x"),
        ),
        *(
            ("compare", "evaluate=x"),
            ("search", "limit=0"),
            ("search", "each=0"),
            ("compare", "samples=-1"),
            ("compare", "every_s=0"),
        ),
        *(("data_check", "rows=-1"), ("data_label", "min_score=7"), ("data_shard", "quality=101")),
    ],
)
def test_a_value_that_is_not_allowed_is_one_line_that_names_the_key(verb: str, given: str) -> None:
    key = given.partition("=")[0].removeprefix("annotator.")
    with pytest.raises(UsageError, match=rf"^{key}=.*: expected ") as error:
        compose(verb, [*NEEDED.get(verb, []), *(["visual=clip"] if "tokens" in key else []), given])
    assert "\n" not in str(error.value)


def test_a_key_that_may_be_null_says_so() -> None:
    with pytest.raises(UsageError, match=r"^threshold=3: expected 0 to 1, or null$"):
        compose("predict", ["run=r", "source=s", "threshold=3"])


def test_classes_of_others_may_use_the_same_names_for_other_numbers() -> None:
    own = {"fusion": {"_target_": "mmattn.fusion.late.LateFusion", "layers": -1}}
    other = {"fusion": {"_target_": "mypkg.Fusion", "layers": -1, "dropout": 7}}
    check_allowed("train", other, other)
    with pytest.raises(UsageError, match=r"^fusion\.layers=-1: expected 1 or more$"):
        check_allowed("train", own, own)


def test_windows_without_limit_stay_possible() -> None:
    config = compose("train", ["attention=time_window", "attention.pattern.past_s=inf"])
    assert config["attention"]["pattern"]["past_s"] == math.inf


@pytest.mark.parametrize("within", sorted(set(RANGES.values()), key=str))
def test_a_range_has_its_ends_exactly_where_it_says(within: Range) -> None:
    assert (within.low in within) is not (within.above or math.isinf(within.low))
    assert (within.high in within) is (not within.below if math.isfinite(within.high) else not within.finite)
    assert math.nan not in within
    assert -math.inf not in within


def test_a_choice_of_one_name_and_of_several_reads_well() -> None:
    for given, expected in (("trainer.profile=x", "steps, or null"), ("trainer.keep_mode=x", "max or min, or null")):
        with pytest.raises(UsageError, match=rf"expected {expected}$"):
            compose("train", [given])


def test_choices_are_those_of_the_code_that_takes_them() -> None:
    from typing import get_args

    from mmattn.data.load.balance import BALANCES
    from mmattn.data.load.dataset import SPANS
    from mmattn.data.manifest.columns import SPLITS
    from mmattn.data.prepare.augment.noise_kinds import KINDS
    from mmattn.data.prepare.clips import _CHOICES
    from mmattn.data.prepare.tokenizer import Kind
    from mmattn.encoders.pretrained import adapt, tokens
    from mmattn.inference.commands.features import DTYPES
    from mmattn.inference.predictor.speed import PRECISIONS
    from mmattn.reports.collect import missing
    from mmattn.tasks.captioning import decoding
    from mmattn.tasks.captioning.language_model import captioner
    from mmattn.tasks.tagging.class_weights import ClassWeights
    from mmattn.training.callbacks.profile import KINDS as PROFILES
    from mmattn.training.run.check import CHOICES as OF_TRAINER
    from mmattn.training.sweep.budget import BUDGETS

    code = {
        **{f"trainer.{key}": known for key, (_, known) in OF_TRAINER.items()},
        "trainer.profile": [kind for kind in PROFILES if kind],
        **{f"{part}.mode": get_args(adapt.Mode) for part in ("visual", "audio", "captions")},
        **{f"{part}.tokens": get_args(tokens.Kind) for part in ("visual", "audio")},
        "train.captions.reads": get_args(captioner.Reads),
        "train.captions.kind": captioner.KINDS,
        "decoding.method": get_args(decoding.Method),
        "tokenizer.kind": get_args(Kind),
        "task.class_weights": get_args(ClassWeights),
        "data.balance": BALANCES,
        "data.span": SPANS,
        "data.clip.spectrogram": _CHOICES["spectrogram"],
        "downmix": _CHOICES["downmix"],
        "hdr": _CHOICES["hdr"],
        "sound.noise_kind": KINDS,
        "noise.kind": KINDS,
        "split": SPLITS,
        "sweep.evaluate": SPLITS,
        "budget": BUDGETS,
        "predict.precision": PRECISIONS,
        "data_features.dtype": DTYPES,
        "compare.evaluate": missing.CHOICES,
    }
    assert {key: tuple(names) for key, names in code.items()} == {key: NAMES[key] for key in code}
    others = {
        "views.crops",
        "trainer.checkpoints",
        "trainer.keep_mode",
        "train.search.direction",
        "train.search.sampler",
        "sweep_ls.direction",
    }
    assert NAMES.keys() - code.keys() == others  # compared in code, without a table


def test_names_of_annotators_are_not_taken_for_those_of_training() -> None:
    assert choices_of("predict.annotator.captions.kind") is None
    assert choices_of("train.captions.kind") is not None
