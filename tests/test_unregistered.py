"""Workdirs with models whose code is not of the package, and workdirs whose training has not ended."""

import os
import pathlib
import shlex
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import grasp_jax as gj
from grasp_jax.config import read_config
from grasp_jax.config_file import import_own, load_config
from grasp_jax.models.backbones import BACKBONES
from grasp_jax.models.methods import METHODS
from grasp_jax.models.methods.untrained import Popularity
from grasp_jax.modes import Options, evaluate, recommend
from grasp_jax.serving.http import cli, server
from grasp_jax.trials import chosen
from grasp_jax.trials.run import open_run
from grasp_jax.trials.run_results import config_flags, how_to_refit, how_to_serve
from tests.command_line import run_afresh, write_dataset
from tests.refusal import assert_names, refusal
from tests.trained import SMALL, small_shop

OWN = """
import grasp_jax as gj
from grasp_jax.models.methods.untrained import Popularity


class Mine(Popularity):
    \"\"\"A method outside the package.\"\"\"


gj.register_method("mine", Mine())
"""
CONFIG = """
import mine
from grasp_jax.config import default_config


def get_config():
    config = default_config()
    config.data.path = "data"
    config.model.method = "popularity,mine"
    config.eval.num_negatives = 10
    config.data.max_length = 9
    return config
"""


@pytest.fixture(scope="module")
def shop() -> gj.Dataset:
    return small_shop()


@pytest.fixture(scope="module")
def both(shop: gj.Dataset, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The workdir of popularity and of a method "mine", which is forgotten afterwards."""
    workdir = tmp_path_factory.mktemp("own") / "run"
    gj.register_method("mine", type("Mine", (Popularity,), {})())
    try:
        for method in ("popularity", "mine"):
            gj.Recommender(method=method, **SMALL).fit(shop, workdir)
    finally:
        del METHODS["mine"]
    return workdir


@pytest.fixture
def registered() -> Iterator[None]:
    gj.register_method("mine", type("Mine", (Popularity,), {})())
    yield
    del METHODS["mine"]


def test_a_method_that_is_not_registered_is_not_passed_over(
    both: pathlib.Path, shop: gj.Dataset
) -> None:
    """`load` would return another model of the workdir without a word, and `save` write that one."""
    expected = ("method 'mine' is not registered here", "import what registers it")
    message = refusal(gj.Recommender.load, both, shop)
    assert_names(message, (*expected, "name another model: method='popularity', backbone='sasrec'"))
    assert_names(refusal(gj.Recommender.load, both, shop, method="mine"), expected)
    loaded = gj.Recommender.load(both, shop, method="popularity")
    assert loaded.method == "popularity"
    assert_names(
        refusal(gj.Recommender.load, both, shop, method="plain"),
        ("no plain was trained there; there are mine-sasrec, popularity-sasrec",),
    )


def test_the_remedy_for_a_backbone_names_a_model_that_opens(
    shop: gj.Dataset, tmp_path: pathlib.Path
) -> None:
    """`load` would advise a method of which the workdir has that backbone too, and give the same message again."""
    gj.register_backbone("mine", type("Mine", (BACKBONES["sasrec"],), {}))
    try:
        for backbone in ("mine", "sasrec"):
            gj.Recommender(method="popularity", backbone=backbone, **SMALL).fit(shop, tmp_path)
    finally:
        del BACKBONES["mine"]
    (tmp_path / "checkpoints" / "grasp-sasrec").mkdir()
    for asked in ({}, {"method": "popularity"}):
        message = refusal(gj.Recommender.load, tmp_path, shop, **asked)
        expected = "name another model: method='popularity', backbone='sasrec'"
        assert_names(message, ("backbone 'mine' is not registered here", expected))
    named = {"method": "popularity", "backbone": "sasrec"}
    assert gj.Recommender.load(tmp_path, shop, **named).backbone == "sasrec"
    message = refusal(gj.Recommender.load, tmp_path, shop, method="grasp")
    assert message.endswith(
        "no grasp was trained there; there are popularity-mine, popularity-sasrec; run --mode=train, or name another method"
    )


@pytest.mark.usefixtures("registered")
def test_a_method_that_is_registered_is_opened(both: pathlib.Path, shop: gj.Dataset) -> None:
    """The refusal would meet those who have imported their method."""
    assert gj.Recommender.load(both, shop, method="mine").method == "mine"
    assert gj.Recommender.load(both, shop).method == "popularity", "the first of equal scores"


def test_a_file_that_is_imported_registers_the_method(
    both: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """grasp-serve could not be told the code of a method from outside the package."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    served: list[list[str]] = []
    monkeypatch.setattr(server, "serve", lambda *_: served.append([*METHODS]) or 0)
    with pytest.raises(SystemExit):
        cli.run([str(both), "--import=mine.py"])
    assert "mine" in served[0]
    del METHODS["mine"]
    import_own("mine.py")
    del sys.modules["mine"]
    assert "mine" in METHODS
    del METHODS["mine"]
    monkeypatch.delenv("PYTHONPATH", raising=False)
    message = refusal(import_own, "mine")
    assert_names(message, ("--import=mine: ModuleNotFoundError", "put PYTHONPATH=. in front of"))
    monkeypatch.syspath_prepend(tmp_path)
    import_own("mine")
    assert "mine" in METHODS
    del METHODS["mine"], sys.modules["mine"]
    (tmp_path / "wrong.py").write_text("1 / 0")
    for named in ("wrong", "wrong.py"):
        message = refusal(import_own, named)
        assert_names(message, ("--import", "wrong.py:1: ZeroDivisionError"))
    assert_names(
        refusal(import_own, "absent.py"),
        (
            "--import",
            "absent.py: no such file",
        ),
    )
    assert_names(refusal(import_own, "absent"), ("PYTHONPATH=FOLDER", "absent.py"))


def test_a_config_file_whose_import_fails_names_the_folder(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ "mend the file" was the remedy where Python did not look into the folder of the file."""
    (tmp_path / "beside.py").write_text("")
    for module, known, remedy in (
        ("beside", "", f"; put PYTHONPATH={tmp_path} in front of the command"),
        ("beside", "lib", f"; put PYTHONPATH={tmp_path}{os.pathsep}lib in front of the command"),
        ("elsewhere", "", "put PYTHONPATH=FOLDER in front of the command, with the folder of"),
        ("json.beside", "", "; install it, or mend the import"),
    ):
        monkeypatch.setenv("PYTHONPATH", known)
        (tmp_path / "own.py").write_text(f"import {module}")
        message = refusal(load_config, str(tmp_path / "own.py"))
        assert_names(
            message, (f"own.py:1: ModuleNotFoundError: No module named '{module}'", remedy)
        )


def test_files_of_own_code_are_modules_of_their_own_names(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A method would replace another one without a word, or one that a config file imports be refused as taken; or half a module stay."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    own, again, json_too = (tmp_path / f"{name}.py" for name in ("own_a", "own_b", "json"))
    for path in (own, again, json_too):
        path.write_text(OWN)
    (tmp_path / "own_config.py").write_text("import own_a")
    (tmp_path / "own_half.py").write_text("1 / 0")
    before = sys.modules["json"]
    try:
        import_own("~/own_a.py")
        import_own(str(tmp_path / "own_config.py"))
        assert type(METHODS["mine"]).__module__ == "own_a"
        for path in (again, json_too):
            assert "'mine' is taken" in refusal(import_own, str(path))
        assert "own_half.py:1" in refusal(import_own, str(tmp_path / "own_half.py"))
        assert sys.modules["json"] is before
        assert not {"own_b", "own_half"} & sys.modules.keys()
    finally:
        METHODS.pop("mine", None)
        for name in ("own_a", "own_config"):
            sys.modules.pop(name, None)


def test_the_printed_commands_register_the_method(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would be refused, or save another model, because the workdir has only the name of the method."""
    workdir, own = pathlib.Path("runs/shop"), ["mine"]
    monkeypatch.setenv("PYTHONPATH", ".")
    flags = ["--config=own.py", "--config.model.dropout=(0.1,0.2)", "--workdir=runs/shop"]
    monkeypatch.setattr(sys, "argv", ["grasp-jax", *flags])
    command = "PYTHONPATH=. grasp-jax --config=own.py '--config.model.dropout=(0.1,0.2)' --workdir=runs/shop --mode=refit"
    assert how_to_refit(workdir, own) == command
    said = how_to_serve(workdir, own)
    assert_names(said, ("PYTHONPATH=. python -c", 'open_config("own.py"); gj.Recommender.load('))
    assert said.endswith("; and run PYTHONPATH=. grasp-serve models/shop --import=own.py")
    assert how_to_refit(workdir) == "grasp-jax --workdir=runs/shop --mode=refit"
    for arguments in (["--workdir=w"], ["--config=runs/shop/config.json"]):
        monkeypatch.setattr(sys, "argv", ["grasp-jax", *arguments])
        assert "FILE.py: a config file that registers mine" in how_to_refit(workdir, own)
        assert "FILE.py: a config file that registers mine" in how_to_serve(workdir, own)
    flags = ["--config", "own.py:late", "--noconfig.eval.full", "--config.train.max_epochs", "3"]
    assert config_flags([*flags, "--config.eval.full", "--workdir", "w"]) == [
        "--config=own.py:late",
        "--noconfig.eval.full",
        "--config.train.max_epochs=3",
        "--config.eval.full",
    ]


@pytest.mark.slow
def test_the_printed_commands_run(tmp_path: pathlib.Path) -> None:
    """What the end of a run says to a user with a method of their own would not work as it stands."""
    write_dataset(tmp_path / "data")
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "own.py").write_text(CONFIG)
    root = str(pathlib.Path(__file__).parent.parent)

    def call(command: str) -> str:
        named = command.replace("grasp-jax ", f"{shlex.quote(sys.executable)} -m grasp_jax.main ")
        named = named.replace("python -c", f"{shlex.quote(sys.executable)} -c")
        line = f"cd {shlex.quote(str(tmp_path))} && {named}"
        done = run_afresh(["sh", "-c", line], PYTHONPATH=f".:{root}")
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = call("grasp-jax --config=own.py --workdir=runs/own").splitlines()
    (refit,) = (line for line in said if line.startswith("for production: "))
    (save,) = (line for line in said if line.startswith("then save it: "))
    call(refit.removeprefix("for production: ").partition(" trains the model")[0])
    call(save.removeprefix("then save it: ").partition("; and run")[0])
    assert (tmp_path / "models" / "own" / "model.json").is_file()


def test_a_training_that_has_not_ended_is_told(
    shop: gj.Dataset,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half a training would be evaluated, saved and compared as a finished one."""
    small: dict[str, Any] = SMALL | {"method": "plain", "dropout": 0.3, "max_epochs": 3}
    model = gj.Recommender(**small)
    model.fit(shop, tmp_path / "run", callbacks=[lambda record: record.epoch == 2])
    capsys.readouterr()
    gj.Recommender.load(tmp_path / "run", shop)
    told = (
        f"{tmp_path / 'run'}: the training of plain-sasrec was stopped after 2 of at most 3 epochs"
    )
    said = capsys.readouterr().out
    assert told in said and f"fit(dataset, workdir={str(tmp_path / 'run')!r})" in said
    run_of_it = open_run(read_config(tmp_path / "run"), tmp_path / "run", shop)
    for mode in (evaluate, recommend):  # of the command line
        mode(run_of_it, Options())
        assert told in capsys.readouterr().out
    # another model that is better so far does not hide it
    gj.Recommender(**small | {"method": "popularity"}).fit(shop, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(
            chosen, "validation_scores", lambda trial, _: np.array([trial.method == "popularity"])
        )
        gj.Recommender.load(tmp_path / "run", shop)
    instead = "popularity-sasrec is used instead of its best model so far"
    assert f"{told}, and {instead}" in capsys.readouterr().out
    model.fit(shop, tmp_path / "run")
    capsys.readouterr()
    gj.Recommender.load(tmp_path / "run", shop)
    assert "was stopped after" not in capsys.readouterr().out
