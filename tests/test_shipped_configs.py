"""The configs that come with the project are valid, and say what the pages say of them."""

import importlib
import pathlib
import re

import pytest

from configs import sweep
from grasp_jax.config import Config, flatten, names, value_of
from grasp_jax.config_checks import check_config
from grasp_jax.core.errors import UserError
from grasp_jax.models.methods import METHODS
from tests.changed_config import checked

CONFIGS = sorted(
    path.stem
    for path in (pathlib.Path(__file__).parent.parent / "configs").glob("*.py")
    if path.stem not in ("__init__", "protocol")
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
