"""A method whose code was changed: the workdir of the earlier code is not continued, and its models are not used without a word."""

import importlib.util
import logging
import pathlib
import sys
import types
from collections.abc import Iterator

import pytest

import grasp_jax as gj
from grasp_jax.config import Config, ModelConfig
from grasp_jax.models import registration
from grasp_jax.models.methods import METHODS
from grasp_jax.models.own_code import hash_of_code
from grasp_jax.provenance import difference
from grasp_jax.trials.run import Run
from tests.refusal import assert_names, refusal
from tests.trained import SMALL, small_shop

CODE = """
from grasp_jax.models.methods.untrained import Popularity
import helper

WEIGHT = 1.0
STEPS = (1, [2], {"last": 3})


class Mine(Popularity):
    \"\"\"Counts.\"\"\"

    def power(self):
        return helper.doubled(WEIGHT), STEPS, __file__
"""
HELPER = """
def doubled(x):
    return 2 * x
"""


@pytest.fixture
def forget() -> Iterator[None]:
    """What the modules of a test registered or left in `sys.modules` is forgotten."""
    yield
    for name in ("own_mine", "own_other", "helper"):
        sys.modules.pop(name, None)
    METHODS.pop("own_mine", None)


def imported(
    folder: pathlib.Path, code: str, helper: str = HELPER, module_name: str = "own_mine"
) -> object:
    """An object of class Mine of a new module with this code."""
    folder.mkdir(exist_ok=True)
    for name, text in (("helper", helper), (module_name, code)):
        path = folder / f"{name}.py"
        path.write_text(text, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        exec(compile(text, path, "exec", dont_inherit=True), module.__dict__)
    return module.Mine()


@pytest.mark.usefixtures("forget")
def test_what_counts_as_a_change(tmp_path: pathlib.Path) -> None:
    """A comment would make a workdir useless, or a changed helper or constant go unnoticed."""
    first = hash_of_code(imported(tmp_path, CODE))
    looks = CODE.replace("Counts.", "Counts of items.").replace("__file__", "__file__  # twice")
    assert first and hash_of_code(imported(tmp_path, looks)) == first
    for code, helper in (
        (CODE.replace("1.0", "1.5"), HELPER),
        (CODE.replace('"last": 3', '"last": 4'), HELPER),
        (CODE.replace("return helper", "return 1 + helper"), HELPER),
        (CODE, HELPER.replace("2 *", "3 *")),
    ):
        assert hash_of_code(imported(tmp_path, code, helper)) != first
    assert hash_of_code(type("Typed", (object,), {})()) == ""  # no source


@pytest.mark.usefixtures("forget")
def test_names_of_modules_and_folders_are_no_change(tmp_path: pathlib.Path) -> None:
    """`import cosine`, `--import=cosine.py`, a config file of another name, or a moved folder would count as changed code."""
    first = hash_of_code(imported(tmp_path, CODE))
    assert hash_of_code(imported(tmp_path / "moved", CODE, module_name="own_other")) == first


def test_code_that_only_one_side_knows_is_no_difference() -> None:
    """A workdir of an earlier version, or a session without sources, would be refused."""
    assert difference({"data": "a"}, {"data": "a", "code": {"mine": "1"}}) == ""
    assert difference({"code": {"mine": "1"}}, {"code": {"mine": "1", "other": "2"}}) == ""
    for before, now in (("1", "2"), ({"python3.11": "1"}, {"python3.11": "2"})):
        changed = difference({"code": {"mine": before}}, {"code": {"mine": now}})
        assert changed == "the code of 'mine' has changed since then"
    of_another = {"code": {"mine": {"python3.12": "2"}}}
    assert difference({"code": {"mine": {"python3.11": "1"}}}, of_another) == ""


def test_the_code_of_other_backbones_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of one backbone would make the models of all others of its config useless."""
    monkeypatch.setitem(registration._CODE, "own_mine", "1")
    run = types.SimpleNamespace(config=Config(model=ModelConfig(backbone="own_mine,sasrec")))
    run.fingerprint = "a"
    assert "code" not in Run.made_from(run, "popularity", "sasrec")  # type: ignore[arg-type]
    made = Run.made_from(run, "popularity", "own_mine")  # type: ignore[arg-type]
    assert made["code"] == {"own_mine": {registration.PYTHON: "1"}}


@pytest.mark.usefixtures("forget")
def test_a_workdir_of_the_earlier_code(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Training resumed with the new code, and `evaluate` returned the figures of the old one."""
    gj.register_method("own_mine", imported(tmp_path, CODE))  # type: ignore[arg-type]
    shop, workdir = small_shop(), tmp_path / "run"
    model = gj.Recommender(method="own_mine", **SMALL).fit(shop, workdir)
    model.save(tmp_path / "saved")
    model.fit(shop, workdir)
    monkeypatch.setitem(registration._CODE, "own_mine", "another")
    again = gj.Recommender(method="own_mine", **SMALL)
    assert_names(
        refusal(again.fit, shop, workdir),
        ("the code of 'own_mine' has changed since then", "use another --workdir"),
    )
    for place in (workdir, tmp_path / "saved"):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "grasp_jax"):
            gj.Recommender.load(place, shop)
        said = [line for line in caplog.messages if "the code of 'own_mine'" in line]
        assert len(said) == 1 and "present code" in said[0]
