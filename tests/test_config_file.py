"""Config files that fail, flags that name no field, and the source of the data: each gives one line, or the intended config."""

import pathlib
from typing import Any

import pytest

from grasp_jax.config import Config, flatten, resolve_source
from grasp_jax.config_file import check_overrides, load_config
from tests.refusal import assert_names, refusal

DEFAULT = "from grasp_jax.config import default_config\ndef get_config():\n    config = default_config()\n"
FILES: dict[str, tuple[str, tuple[str, ...]]] = {
    "syntax": ("def get_config():\n    return (\n", ("own.py:2: SyntaxError", "never closed")),
    "null byte": ("x = 1\0\n", ("own.py", "null byte")),
    "missing import": (
        "import no_such_module\n",
        ("own.py:1: ModuleNotFoundError: No module named 'no_such_module'",),
    ),
    "outside": ("x = 1\ny = 1 / 0\n", ("own.py:2: ZeroDivisionError: division by zero",)),
    "inside": (
        "def get_config():\n    helper = {}\n    return helper['a']\n",
        ("own.py:3: KeyError: a",),
    ),
    "exits": ("import sys\nsys.exit('bye')\n", ("own.py:2: SystemExit: bye",)),
    "recursion": ("def get_config():\n    return get_config()\n", ("own.py", "RecursionError")),
    "unknown field": (
        DEFAULT + "    config.train.epochs = 3\n    return config\n",
        ("own.py:4: AttributeError", "epochs"),
    ),
    "type": (
        DEFAULT + "    config.train.batch_size = 6.5\n    return config\n",
        ("own.py:4: TypeError", "'batch_size'"),
    ),
    "dict": (
        "def get_config():\n    return {'train': {}}\n",
        (
            "get_config of",
            "returns dict; expected the config",
        ),
    ),
    "forgot return": (DEFAULT, ("returns NoneType; expected the config",)),
    "no get_config": ("config = 5\n", ("own.py has no function get_config()",)),
    "wants a variant": (
        "def get_config(variant):\n    return 1\n",
        ("wants a variant: --config=",),
    ),
    "no section": (
        "from ml_collections import ConfigDict\ndef get_config():\n    return ConfigDict({'model': {'features': 8}})\n",
        (
            "own.py: config.compilation_cache is missing; expected one that begins with default_config()",
        ),
    ),
    "surplus": (
        DEFAULT
        + "    with config.unlocked():\n        config.train.epochs = 5\n    return config\n",
        ("own.py: config.train.epochs: no such field; did you mean max_epochs?",),
    ),
}


@pytest.mark.parametrize("fault", FILES)
def test_a_file_that_fails_says_where(fault: str, tmp_path: pathlib.Path) -> None:
    """A traceback through three libraries would hide the line that is to be mended."""
    content, parts = FILES[fault]
    (tmp_path / "own.py").write_text(content)
    assert_names(refusal(load_config, str(tmp_path / "own.py")), ("--config", *parts))


def test_names_of_files(tmp_path: pathlib.Path) -> None:
    """A folder, a misspelt name, another kind of file, a variant where there is none."""
    assert_names(refusal(load_config, "configs"), ("configs is a folder", "configs/beauty.py"))
    assert_names(
        refusal(load_config, "configs/quickstar.py"),
        ("no such config file; did you mean configs/quickstart.py?",),
    )
    assert_names(
        refusal(load_config, "configs/quickstart"), ("did you mean configs/quickstart.py?",)
    )
    assert_names(refusal(load_config, "zzz.py"), ("no such config file",))
    assert_names(refusal(load_config, "configs/quickstart.py:small"), ("has no variants",))
    assert_names(
        refusal(load_config, "configs/sweep.py:table9"),
        ("configs/sweep.py:table9: expected one of",),
    )
    (tmp_path / "own.yaml").write_text("")
    assert_names(refusal(load_config, str(tmp_path / "own.yaml")), ("is no Python file",))
    assert load_config("configs/sweep.py:table4").model.method.startswith("grasp,")


@pytest.mark.parametrize(
    "flag, message",
    [
        ("--config.train.epochs=3", "config.train.epochs: no such field; did you mean max_epochs?"),
        (
            "--config.train.learning_speed=1",
            "config.train.learning_speed: no such field; did you mean",
        ),
        (
            "--config.features=8",
            "config.features: no such field; did you mean config.model.features?",
        ),
        (
            "--config.trian.seeds=1",
            "config.trian.seeds: no such field; did you mean config.train.seeds?",
        ),
        ("--config.train=5", "config.train: a section, no field; it has start_from"),
        ("--noconfig.eval.ful", "config.eval.ful: no such field; did you mean full?"),
        ("--config.zzz=1", "config.zzz: no such field; docs/config.md lists every field"),
        ("--config.mesh.model=2", "config.mesh.model: no such field; config.mesh has data, table"),
    ],
)
def test_flags_that_name_no_field(flag: str, message: str) -> None:
    """What was said was `'epochs'` and "Did you mean", without what."""
    assert refusal(check_overrides, ["main", "--config=configs/quickstart.py", flag]).startswith(
        message
    )


def test_flags_without_a_config() -> None:
    """A field of no config would be an unknown flag of absl's."""
    assert_names(
        refusal(check_overrides, ["main", "--config.train.patience=3"]),
        ("config.train.patience", "without --config"),
    )
    assert_names(
        refusal(check_overrides, ["main", "--config=a.py", "--config=b.py"]),
        ("given 2 times, a.py and b.py",),
    )
    check_overrides(
        [
            "main",
            "--config=a.py",
            "--config.train.patience=3",
            "--noconfig.eval.full",
            "--config.by_method.plain.model.x=1",
        ]
    )


def quickstart(given: dict[str, Any]) -> dict[str, Any]:
    """Fields of configs/quickstart.py with flags, as `main` merges them."""
    config = load_config("configs/quickstart.py")
    config.update_from_flattened_dict(given)
    settled = resolve_source(Config.from_dict(config.to_dict()), given)
    return flatten(settled.to_dict())


def test_the_quickstart_is_what_it_was() -> None:
    """Its results would change, or its old workdirs be of another config."""
    changed = {
        key: value
        for key, value in quickstart({}).items()
        if value != flatten(Config().to_dict())[key]
    }
    assert changed == {
        "data.name": "synthetic-shop",
        "data.source": "synthetic",
        "data.max_length": 50,
        "data.tail_item_below": 4,
        "data.synthetic.num_users": 2000,
        "data.synthetic.num_items": 5000,
        "data.synthetic.repeat_rate": 0.03,
        "model.method": "plain,grasp,grasp_plus",
        "model.dropout": (0.3,),
        "model.row_norm": 16.0,
        "train.learning_rate": (2e-3,),
        "train.max_epochs": 60,
        "train.patience": 5,
        "eval.select": "sampled100",
    }


def test_a_path_is_used_and_the_shop_left_behind() -> None:
    """People's own data were answered with the results of the synthetic shop, or got its tuning."""
    own, defaults = quickstart({"data.path": "folder", "model.row_norm": 2.0}), Config()
    assert (own["data.source"], own["data.path"], own["data.name"], own["model.row_norm"]) == (
        "files",
        "folder",
        "dataset",
        2.0,
    )
    assert (own["data.max_length"], own["data.tail_item_below"], own["model.dropout"]) == (
        100,
        0,
        defaults.model.dropout,
    )
    assert quickstart({"model.row_norm": 1.0})["model.row_norm"] == 1.0, (
        "a flag stands above what a source has"
    )
    assert quickstart({"data.source": "files", "data.path": "folder"})["data.source"] == "files"


CONTRADICTIONS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "path and shop": (
        {"data.source": "synthetic", "data.path": "folder"},
        ("config.data.path: 'folder'", "leave out"),
    ),
    "items and shop": (
        {"data.items_file": "items.jsonl"},
        ("config.data.items_file: 'items.jsonl'", "set config.data.path too"),
    ),
    "shop's size and files": (
        {"data.path": "folder", "data.synthetic.num_users": 5},
        ("config.data.synthetic.num_users", "'files'", "leave it out"),
    ),
    "Amazon's filter and shop": (
        {"data.amazon.iterative": False},
        ("config.data.amazon.iterative", "'synthetic'"),
    ),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_contradictions_are_refused(case: str) -> None:
    """One of two flags would be dropped without a word."""
    given, parts = CONTRADICTIONS[case]
    assert_names(refusal(quickstart, given), parts)


def test_what_a_source_has_is_checked() -> None:
    """A mistyped field or source in `by_source` would be set in vain."""
    for by_source, parts in (
        (
            {"synthetic": {"model": {"droput": (0.1,)}}},
            ("config.by_source.synthetic.model.droput",),
        ),
        (
            {"synthetic": {"model": {"features": "x"}}},
            ("config.by_source.synthetic.model.features",),
        ),
        (
            {"shop": {"model": {"features": 8}}},
            ("config.by_source.shop", "expected fields of one of files, synthetic, amazon"),
        ),
        ({"files": 5}, ("config.by_source.files: 5",)),
    ):
        config = Config().with_fields({"data.source": "auto", "by_source": by_source})
        assert_names(refusal(resolve_source, config, ()), parts)
