"""Defaults, configs that are refused before any work is done, and the config of a workdir."""

import importlib
import json
import pathlib
import pickle
import re
from typing import Any

import pytest

from configs import sweep
from grasp_jax.config import (
    CONFIG_FILE,
    FIELDS,
    Config,
    EvalConfig,
    as_changes,
    check_workdir,
    default_config,
    flatten,
    identity,
    names,
    read_config,
    resolve_field,
    save_config,
    to_json,
    unknown_field,
    value_of,
)
from grasp_jax.config.checks import Choice
from grasp_jax.config.model import QUERIES_BY_INTERACTION
from grasp_jax.config_checks import check_config
from grasp_jax.errors import UserError
from grasp_jax.knowledge.corruption import KINDS
from grasp_jax.knowledge.encoders.geometry import REDUCTIONS
from grasp_jax.models.gate_queries import BY_INTERACTION, QUERIES
from grasp_jax.models.methods import METHODS
from grasp_jax.parallel.plan import DEVICES
from grasp_jax.provenance import difference
from tests.refusal import assert_names, refusal

CONFIGS = sorted(
    path.stem
    for path in (pathlib.Path(__file__).parent.parent / "configs").glob("*.py")
    if path.stem not in ("__init__", "protocol")
)


def checked(changes: dict[str, Any]) -> Config:
    """The defaults with other values, as a run would take them."""
    config = Config.from_dict(changes)
    check_config(config)
    return config


def changed(key: str, value: Any) -> Config:
    return Config().with_fields({key: value})


def test_defaults_are_valid() -> None:
    """Would break every run."""
    check_config(Config())
    check_config(Config.from_dict(default_config().to_dict()))


@pytest.mark.parametrize("section", ["describe", "embed"])
def test_keys_in_a_config_are_refused_and_not_shown(section: str) -> None:
    """Would break secrecy: a key would stand in config.json, or in the error itself."""
    for field, value in (
        ("base_url", "http://host/v1?api_key=SECRET1"),
        ("key_variable", "sk-SECRET1"),
    ):
        message = refusal(checked, {f"knowledge.{section}.{field}": value})
        assert (
            message.startswith(f"config.knowledge.{section}.{field}: ") and "SECRET1" not in message
        )


@pytest.mark.parametrize("name", CONFIGS)
def test_shipped_configs_are_valid_and_know_every_key(name: str) -> None:
    """Would break a config that comes with the project: a value that is refused, or a key that nothing reads."""
    config = importlib.import_module(f"configs.{name}").get_config()
    own = checked(config.to_dict())
    for method in own.by_method:
        assert method in METHODS
        check_config(own.for_method(method))
    known = {
        key for key in flatten(config.to_dict()) if not key.startswith(("by_method.", "by_source."))
    }
    assert known == set(flatten(Config().to_dict()))


def test_a_method_may_have_its_own_settings() -> None:
    """Would break sweeps: every method would have one dropout, or a mistyped field be set in vain."""
    config = changed(
        "by_method", {"plain": {"model": {"dropout": (0.5,)}, "train": {"learning_rate": 3e-3}}}
    )
    plain = config.for_method("plain")
    assert (plain.model.dropout, plain.train.learning_rate, plain.model.features) == (
        (0.5,),
        (3e-3,),
        64,
    )
    assert config.for_method("llminit").model.dropout == config.model.dropout == (0.2,)
    for own, parts in (
        (
            {"model": {"droput": 1}},
            ("config.by_method.grasp.model.droput: no such field; did you mean dropout?",),
        ),
        (
            {"data": {"max_length": 5}},
            ("config.by_method.grasp.data", "all methods of a run share it"),
        ),
        (
            {"model": {"table_dtype": "float16"}},
            ("config.by_method.grasp.model.table_dtype", "all methods of a run share it"),
        ),
        (5, ("config.by_method.grasp: 5", "expected fields")),
    ):
        assert_names(refusal(changed, "by_method", {"grasp": own}), parts)


@pytest.mark.parametrize("section", ["", "train", "data.synthetic"])
def test_unknown_keys_raise(section: str) -> None:
    """Would break runs: a mistyped key, set in vain. `main` locks the config, as here."""
    config = default_config().lock()
    for part in filter(None, section.split(".")):
        config = config[part]
    with pytest.raises((AttributeError, KeyError), match="learning_speed"):
        config.learning_speed = 1
    with pytest.raises(AttributeError, match="learning_speed"):
        _ = config.learning_speed


def test_unknown_keys_raise_in_config_files() -> None:
    """Would break runs: `config.data.max_lenght = 50` in a config file would be set in vain."""
    with pytest.raises(AttributeError, match="max_lenght"):
        default_config().data.max_lenght = 50


@pytest.mark.parametrize(
    "section, field, value",
    [
        ("train", "batch_size", "many"),
        ("train", "batch_size", 64.5),
        ("train", "seeds", 42),
        ("data", "name", 7),
    ],
)
def test_wrong_types_raise(section: str, field: str, value: Any) -> None:
    """Would break runs late: a value of another type than the default's is refused where it is set, by name."""
    config = default_config().lock()
    with pytest.raises(TypeError, match=field):
        config[section][field] = value


def test_a_config_goes_through_json_and_pickle() -> None:
    """A stored config would come back as another one."""
    config = Config().with_fields(
        {
            "train.seeds": (1, 2),
            "kernels": "xla",
            "by_method": {"plain": {"model": {"dropout": [0.5]}}},
        }
    )
    assert (
        Config.from_dict(json.loads(json.dumps(config.to_dict())))
        == config
        == pickle.loads(pickle.dumps(config))
    )
    assert config.model.kernels == "xla", "the model's section follows"


@pytest.mark.parametrize(
    "name, full",
    [
        ("dropout", "model.dropout"),
        ("max_epochs", "train.max_epochs"),
        ("batch_size", "train.batch_size"),
        ("kernels", "kernels"),
        ("eval.seed", "eval.seed"),
        ("plus.gate", "model.plus.gate"),
        ("plus__gate", "model.plus.gate"),
        ("encoder", "knowledge.encoder"),
    ],
)
def test_fields_by_their_last_name(name: str, full: str) -> None:
    """`Recommender(dropout=0.3)` would set another field, or none."""
    assert resolve_field(name) == full


def test_names_that_are_no_field_or_several() -> None:
    """One of several fields would be set by chance."""
    assert_names(
        refusal(resolve_field, "gate"),
        ("gate: the name of several fields; expected one of model.gate, model.plus.gate",),
    )
    assert_names(refusal(resolve_field, "seed"), ("knowledge.seed", "eval.seed"))
    assert_names(
        refusal(resolve_field, "droput"),
        ("config.droput: no such field; did you mean config.model.dropout?",),
    )
    assert_names(refusal(resolve_field, "model"), ("config.model: a section, no field",))


def test_choices_are_those_that_the_package_knows() -> None:
    """A value would be taken that no code has, or refused though there is code."""
    choices = {
        name: about.check.names for name, about in FIELDS.items() if isinstance(about.check, Choice)
    }
    assert (
        choices["plan.device"] == tuple(DEVICES) and choices["knowledge.corruption.kind"] == KINDS
    )
    assert (
        choices["knowledge.reduction.kind"] == REDUCTIONS and choices["model.gate_query"] == QUERIES
    )
    assert BY_INTERACTION == QUERIES_BY_INTERACTION


def test_sections_know_where_they_stand() -> None:
    """Messages would name another field."""
    assert all(about.what.endswith(".") for about in FIELDS.values())
    sections = {name.rpartition(".")[0] for name in FIELDS} - {""}
    assert all(section == value_of(Config(), section).SECTION for section in sections)


REFUSED = {
    "data.source": ("web", "'web'; expected one of files, synthetic, amazon, auto"),
    "knowledge.dtype": ("float64", "'float64'; expected one of float32, float16, bfloat16"),
    "knowledge.reduction.kind": ("svd", "'svd'; expected one of none, truncate, pca"),
    "knowledge.reduction.width": (8, "8 with kind 'none'; expected a width for truncate and pca"),
    "knowledge.retrieval": ("faiss", "'faiss'; expected one of exact, clusters, scann"),
    "model.gate": ("sigmoid", "'sigmoid'; expected one of paper, learned, none, softmax"),
    "model.dtype": ("float64", "'float64'; expected one of float32, bfloat16"),
    "model.table_dtype": ("int8", "'int8'; expected one of float32, float16, bfloat16"),
    "model.projection": ("both", "'both'; expected one of auto, token, table"),
    "data.max_length": (0, "0; expected a positive number"),
    "data.synthetic.num_items": (50, "50; expected at least 100"),
    "train.learning_rate": ((), "(); expected one or more different positive numbers"),
    "eval.num_negatives": (-100, "-100; expected a positive number"),
    "recommend.top_n": (0, "0; expected a positive number"),
    "train.seeds": ((), "(); expected one or more different whole numbers from 0"),
    "knowledge.audit.duplicate_cosine": (1.5, "1.5; expected a cosine, at most 1"),
    "knowledge.audit.pairs": (0, "0; expected a positive number"),
    "knowledge.audit.history_groups": ((), "(); expected one or more lengths from 1"),
    "model.dropout": ((), "(); expected rates from 0 to below 1"),
    "model.num_heads": (3, "3; expected a divisor of model.features=64"),
    "model.method": (
        "plain, magic",
        "'magic'; expected one or several, comma separated, of popularity, semantic_neighbours, plain",
    ),
    "model.backbone": (
        "rnn",
        "'rnn'; expected one or several, comma separated, of sasrec, bert4rec",
    ),
}


def test_an_own_method_that_is_not_registered_is_told_how() -> None:
    """Who asks a workdir of a method of their own would read a list of other methods and not learn what is missing."""
    config = Config().with_fields({"model.method": "mine"})
    assert_names(refusal(check_config, config), ("'mine'", "of your own", "--config=FILE"))


REFUSED_TUPLES = [
    ("train.learning_rate", (-1e-3,), "(-0.001,); expected one or more different positive numbers"),
    (
        "train.learning_rate",
        (1e-3, 1e-3),
        "(0.001, 0.001); expected one or more different positive numbers",
    ),
    (
        "train.learning_rate",
        (1e-3, float("inf")),
        "(0.001, inf); expected one or more different positive numbers",
    ),
    (
        "train.learning_rate",
        (float("nan"),),
        "(nan,); expected one or more different positive numbers",
    ),
    (
        "train.learning_rate",
        ("1e-3",),
        "('1e-3',); expected a tuple of floats, such as (1e-3,3e-3)",
    ),
    ("train.seeds", ("a",), "('a',); expected a tuple of ints, such as (42,43,44)"),
    ("train.seeds", (1.5,), "(1.5,); expected a tuple of ints, such as (42,43,44)"),
    ("train.seeds", (True,), "(True,); expected a tuple of ints, such as (42,43,44)"),
    ("train.seeds", (42, 42), "(42, 42); expected one or more different whole numbers from 0"),
    ("train.seeds", (-1,), "(-1,); expected one or more different whole numbers from 0"),
    (
        "knowledge.audit.history_groups",
        (3, 3),
        "(3, 3); expected one or more lengths from 1, each above the last",
    ),
    ("knowledge.audit.history_groups", (0, 3), "(0, 3); expected one or more lengths from 1"),
    (
        "knowledge.audit.history_groups",
        ("3",),
        "('3',); expected a tuple of ints, such as (3,5,10,20)",
    ),
    ("model.mlp", ("256",), "('256',); expected a tuple of ints, such as (256,)"),
    ("model.dropout", ("0.2",), "('0.2',); expected a tuple of floats, such as (0.2,0.5)"),
    ("model.dropout", (0.2, 1.0), "(0.2, 1.0); expected rates from 0 to below 1"),
    ("model.dropout", (-0.1,), "(-0.1,); expected rates from 0 to below 1"),
    ("model.dropout", (float("nan"),), "(nan,); expected rates from 0 to below 1"),
]


@pytest.mark.parametrize(
    "key, value, message", [*((key, *case) for key, case in REFUSED.items()), *REFUSED_TUPLES]
)
def test_values_that_no_stage_could_use(key: str, value: Any, message: str) -> None:
    """A run would fail late, or train something else than the config says, instead of one line with key, value and what was expected."""
    assert refusal(checked, {key: value}).startswith(f"config.{key}: {message}")


def test_values_at_the_edge_are_taken() -> None:
    """Would break legitimate runs: a linear MLP, no dropout, seed 0, whole numbers as rates, several methods."""
    for key, value in {
        "model.mlp": (),
        "model.dropout": (0, 0.5),
        "train.seeds": (0, 1),
        "model.method": "plain, grasp",
        "model.num_heads": 4,
        "train.learning_rate": (1, 1e-3),
        "data.max_length": 1,
    }.items():
        checked({key: value})


@pytest.mark.parametrize(
    "key, value",
    [
        ("model.mlp", (0,)),
        ("model.mlp", (-3,)),
        ("model.mlp", None),
        ("model.method", "grasp,grasp"),
        ("model.backbone", "sasrec, sasrec"),
        ("eval.full_users", -1),
        ("data.tail_item_below", -2),
        ("data.min_rating", float("nan")),
        ("train.checkpoint_seconds", -1.0),
    ],
)
def test_values_that_would_fail_late(key: str, value: Any) -> None:
    """Would break runs late: an MLP of no or negative width, one model trained twice into one folder."""
    assert f"config.{key}" in refusal(checked, {key: value})


def test_names() -> None:
    """Would break lists of methods: blanks after the commas."""
    assert names("plain") == ["plain"] and names(" plain,grasp , llm_esr") == [
        "plain",
        "grasp",
        "llm_esr",
    ]


def test_a_workdir_belongs_to_its_config(tmp_path: pathlib.Path) -> None:
    """Would break results: two configs in one workdir. The first difference is named, with both values, and how many follow."""
    check_workdir(Config(), tmp_path)
    check_workdir(Config(), tmp_path / "new")
    save_config(Config(), tmp_path / "new")
    check_workdir(Config(), tmp_path / "new")
    path = str(tmp_path / "new" / CONFIG_FILE)
    assert refusal(check_workdir, changed("model.features", 32), tmp_path / "new") == (
        f"{path}: the workdir is of another config: model.features is 64 there and 32 here; use another --workdir"
    )
    config = Config().with_fields({"train.seeds": (42, 43), "model.features": 32})
    message = refusal(check_workdir, config, tmp_path / "new")
    assert_names(
        message,
        (path, "model.features is 64 there and 32 here (and 1 more)", "use another --workdir"),
    )


@pytest.mark.parametrize(
    "key, value",
    [
        ("train.seeds", (42, 43)),
        ("data.synthetic.num_users", 5),
        ("eval.full", False),
        ("model.mlp", ()),
    ],
)
def test_every_section_is_compared(tmp_path: pathlib.Path, key: str, value: Any) -> None:
    """Would break results: a difference in a nested section, a tuple or a switch that goes unseen."""
    save_config(Config(), tmp_path)
    assert f"{key} is " in refusal(check_workdir, changed(key, value), tmp_path)
    save_config(changed(key, value), tmp_path / "own")
    check_workdir(changed(key, value), tmp_path / "own")


def test_one_learning_rate_is_a_number_in_workdirs_of_earlier_versions(
    tmp_path: pathlib.Path,
) -> None:
    """Would break runs that an upgrade finds unfinished; another rate, or a second one, is still another config."""
    save_config(Config(), tmp_path)
    saved = json.loads((tmp_path / CONFIG_FILE).read_text())
    assert saved["train"]["learning_rate"] == [1e-3]
    saved["train"]["learning_rate"] = 1e-3
    del saved["checksum"]  # which those versions did not write
    (tmp_path / CONFIG_FILE).write_text(json.dumps(saved))
    check_workdir(Config(), tmp_path)
    for rates in ((3e-3,), (1e-3, 3e-3)):
        assert "train.learning_rate is 0.001 there and [0.00" in refusal(
            check_workdir, changed("train.learning_rate", rates), tmp_path
        )


def test_recommend_may_change(tmp_path: pathlib.Path) -> None:
    """Would break serving from a finished run: how many items are written decides no number of an earlier stage."""
    save_config(Config(), tmp_path)
    check_workdir(changed("recommend.top_n", 50), tmp_path)
    check_workdir(changed("recommend.exclude_seen", False), tmp_path)


def test_fields_that_came_later(tmp_path: pathlib.Path) -> None:
    """Workdirs of earlier versions would be of another config, or be continued by another rule than they were begun with."""
    save_config(Config(), tmp_path)
    tree = json.loads((tmp_path / CONFIG_FILE).read_text())
    del tree["checksum"], tree["eval"]["select"], tree["data"]["split"]
    (tmp_path / CONFIG_FILE).write_text(json.dumps(tree))
    as_then = changed("eval.select", "sampled100")
    check_workdir(as_then, tmp_path)
    assert "eval.select is 'sampled100' there and 'full' here" in refusal(
        check_workdir, Config(), tmp_path
    )
    assert read_config(tmp_path) == as_then


@pytest.mark.parametrize(
    ("before", "select"),
    [
        ((False, "full"), "full"),
        ((True, "full"), "full_unseen"),
        ((True, "sampled100"), "sampled100"),
    ],
)
def test_a_field_that_is_gone(
    tmp_path: pathlib.Path, before: tuple[bool, str], select: str
) -> None:
    """Workdirs and saved models with `eval.exclude_seen` could not be opened, or epochs be chosen by another ranking than then."""
    tree = to_json(Config())
    tree["eval"] |= dict(zip(("exclude_seen", "select"), before, strict=True))
    (tmp_path / CONFIG_FILE).write_text(json.dumps(tree))
    as_then = changed("eval.select", select)
    assert read_config(tmp_path) == Config.from_dict(as_changes(tree)) == as_then
    check_workdir(as_then, tmp_path)
    made_from = {"config": identity(as_then) | {"eval.exclude_seen": before[0]}}
    if before[1] == "full":
        made_from["config"]["eval.select"] = "full"
    assert not difference(made_from, {"config": identity(as_then)})
    other = "full" if select == "full_unseen" else "full_unseen"
    assert difference(made_from, {"config": identity(changed("eval.select", other))})


def test_who_gives_a_field_that_is_gone_is_told_what_replaced_it() -> None:
    """A user of an earlier version would be told to mean another field of a like name."""
    for said in (
        refusal(Config().with_fields, {"eval.exclude_seen": True}),
        refusal(EvalConfig().with_fields, {"exclude_seen": True}),
        unknown_field("eval.exclude_seen"),
    ):
        assert_names(said, ("config.eval.exclude_seen: no such field any more", "full_unseen"))


def test_what_is_audited_may_change(tmp_path: pathlib.Path) -> None:
    """Would break the audit of a finished run: a workdir older than the audit, or audited otherwise, is the same run."""
    save_config(Config(), tmp_path)
    check_workdir(changed("knowledge.audit.category_column", "brand"), tmp_path)
    tree = json.loads((tmp_path / CONFIG_FILE).read_text())
    del tree["knowledge"]["audit"], tree["checksum"]
    (tmp_path / CONFIG_FILE).write_text(json.dumps(tree))
    check_workdir(Config(), tmp_path)


def test_keys_of_another_version_are_named(tmp_path: pathlib.Path) -> None:
    """Would break old workdirs: a field that was added or removed since is a difference, not a traceback."""
    save_config(Config(), tmp_path)
    tree = json.loads((tmp_path / CONFIG_FILE).read_text())
    tree["model"]["colour"] = tree["model"].pop("causal")
    del tree["checksum"]
    (tmp_path / CONFIG_FILE).write_text(json.dumps(tree))
    message = refusal(check_workdir, Config(), tmp_path)
    assert_names(message, ("model.causal is None there and True here", "and 1 more"))


def test_saved_config_is_whole_and_stays(tmp_path: pathlib.Path) -> None:
    """Would break the record of a run: every field as JSON, and never overwritten by a later call."""
    save_config(Config(), tmp_path / "run")
    content = (tmp_path / "run" / CONFIG_FILE).read_text()
    tree = json.loads(content)
    del tree["checksum"]
    assert (
        set(flatten(tree)) == set(flatten(Config().to_dict()))
        and tree["train"]["seeds"] == [42]
        and tree["model"]["gate"] == "paper"
    )
    save_config(changed("recommend.top_n", 50), tmp_path / "run")
    assert (tmp_path / "run" / CONFIG_FILE).read_text() == content
    assert [path.name for path in (tmp_path / "run").iterdir()] == [CONFIG_FILE], (
        "no partial file stays"
    )


def test_a_damaged_config_is_refused(tmp_path: pathlib.Path) -> None:
    """Would break with a traceback, or claim the workdir of an unknown run."""
    (tmp_path / CONFIG_FILE).write_text('{"data": {"name": "beau')
    message = refusal(check_workdir, Config(), tmp_path)
    assert_names(
        message,
        (
            str(tmp_path / CONFIG_FILE),
            "not readable JSON",
            "use another --workdir or restore the file",
        ),
    )


def test_one_digit_of_a_saved_config(tmp_path: pathlib.Path) -> None:
    """A report would show another width than the models have."""
    save_config(Config(), tmp_path)
    path = tmp_path / CONFIG_FILE
    path.write_text(path.read_text().replace('"top_n": 10', '"top_n": 11'))
    assert_names(refusal(check_workdir, Config(), tmp_path), (str(path), "its checksum differs"))


def test_a_folder_is_one_however_it_is_spelt(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same file by another relative path would count as another config, and another folder as the same."""
    monkeypatch.chdir(tmp_path)
    save_config(changed("train.start_from", "runs/../monday"), tmp_path / "run")
    for same in ("monday", "./monday/", str(tmp_path / "monday")):
        check_workdir(changed("train.start_from", same), tmp_path / "run")
    assert "train.start_from is" in refusal(
        check_workdir, changed("train.start_from", "tuesday"), tmp_path / "run"
    )


@pytest.mark.parametrize(
    "variant",
    [
        "table2",
        "table4",
        "neighbours=5",
        "features=32",
        "gate=prefix*8",
        "corrupt=swap*25",
        "encoder=lsa*titles",
        *(f"plus={part}" for part in sweep.PLUS),
    ],
)
def test_sweeps_are_valid(variant: str) -> None:
    """Would break a curve of the paper: a point that is refused, or that is the default."""
    config = checked(sweep.get_config(variant).to_dict())
    points = {
        "neighbours=5": config.knowledge.num_neighbours == 5,
        "features=32": config.model.features == 32,
        "gate=prefix*8": (config.model.gate_query, config.model.gate_scale) == ("prefix", 8.0),
        "corrupt=swap*25": (config.knowledge.corruption.kind, config.knowledge.corruption.share)
        == ("swap", 0.25),
        "encoder=lsa*titles": config.knowledge.item_template == "titled_item",
    }
    if variant.startswith("plus="):
        fields = sweep.PLUS[variant.removeprefix("plus=")]
        assert config.model.method == "grasp_plus" and all(
            value_of(Config(), key) != value for key, value in fields.items()
        )
        assert all(value_of(config, key) == value for key, value in fields.items())
    assert points.get(variant, set(names(config.model.method)) <= set(METHODS))


@pytest.mark.parametrize(
    "variant",
    [
        "table3",
        "neighbours",
        "table2=5",
        "plus=magic",
        "neighbours=x",
        "corrupt=swap",
        "gate=prefix",
        "encoder=lsa*all",
    ],
)
def test_unknown_sweeps_are_refused(variant: str) -> None:
    """Would break if a mistyped table ran another one."""
    with pytest.raises(UserError, match=rf"sweep\.py:{re.escape(variant)}: .*expected"):
        sweep.get_config(variant)


@pytest.mark.parametrize("name", ["fashion", "beauty"])
@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "bert4rec"])
def test_protocols_of_the_papers_data(name: str, backbone: str) -> None:
    """Would break the comparison with the paper: LLM-ESR's protocol must be what its code does, and ours stay as it is."""
    of = importlib.import_module(f"configs.{name}").get_config
    ours, theirs = of(backbone), of(f"{backbone}@llm_esr")
    checked(theirs.to_dict())
    assert ours.model.backbone == theirs.model.backbone == backbone
    assert (theirs.eval.include_short_users, theirs.model.causal, theirs.model.padded_length) == (
        True,
        False,
        200,
    )
    assert (ours.eval.include_short_users, ours.model.causal, ours.model.padded_length) == (
        False,
        True,
        0,
    )
    assert (
        theirs.train.targets == ("last" if backbone == "gru4rec" else "every")
        and ours.train.targets == "every"
    )
    assert theirs.train.one_item_users and not ours.train.one_item_users
    assert theirs.model.start_token == (backbone == "gru4rec") and not ours.model.start_token
    assert (
        theirs.model.mask_noise == (0.1 if backbone == "bert4rec" else 0.0)
        and ours.model.mask_noise == 0.0
    )
    assert (theirs.model.dropout == (0.0,)) == (backbone == "gru4rec") and ours.model.dropout == (
        0.5,
    )
    with pytest.raises(UserError, match="expected one backbone before @llm_esr"):
        of("sasrec,gru4rec@llm_esr")
    assert of("gru4rec,bert4rec").model.backbone == "gru4rec,bert4rec"


@pytest.mark.parametrize("variant", ["published", "ce"])
def test_comparison_of_every_method(variant: str) -> None:
    """A row would be chosen by another protocol, or one of them keep a loss of its own where all are to have the same."""
    compare = importlib.import_module("configs.compare")
    config = checked(compare.get_config(variant).to_dict())
    assert set(names(config.model.method)) <= set(METHODS) and config.eval.select == "full_unseen"
    assert config.train.loss == ("ce" if variant == "ce" else "auto")
    with pytest.raises(UserError, match=r"compare\.py:best: expected published or ce"):
        compare.get_config("best")


def test_our_best_row() -> None:
    """It would be another model than `grasp_plus` by late fusion, or be chosen among stored negatives."""
    config = checked(importlib.import_module("configs.beauty5").get_config("best").to_dict())
    assert (config.model.method, config.model.plus.fusion) == ("grasp_plus", "late")
    assert (config.eval.select, config.eval.valid_users) == ("full_unseen", 0)
    assert config.knowledge.item_file == "minilm_items.npy"


def test_the_papers_protocol() -> None:
    """A run that is told as the paper's would stop earlier, see less of a history, or have other seeds."""
    config = checked(importlib.import_module("configs.beauty5").get_config("paper").to_dict())
    assert (config.train.learning_rate, config.train.patience) == ((1e-3,), 20)
    assert (config.train.batch_size, config.data.max_length) == (128, 100)
    assert config.train.seeds == (42, 43, 44) and config.model.features == 64
    assert (config.eval.num_negatives, config.eval.valid_users) == (100, 0)
    assert config.eval.select == "sampled100" and config.model.gate == "paper"
    assert (config.knowledge.encoder, config.knowledge.item_file) == ("file", "minilm_items.npy")
    with pytest.raises(UserError, match="expected lsa, minilm, best, paper, endpoint or time"):
        importlib.import_module("configs.beauty5").get_config("papers")
