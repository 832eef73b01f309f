"""Flags that a mode does not read, and values that absl takes: refused by name. In this process, on flags of its own."""

import pathlib
from collections.abc import Iterator

import pytest
from absl import flags
from absl.testing import flagsaver

from grasp_jax import command
from grasp_jax.config import Config, default_config, save_config
from grasp_jax.core import compiled
from tests.refusal import assert_names, refusal
from tests.test_config_workdir import with_equal_rates


@pytest.fixture(autouse=True)
def fresh_flags() -> Iterator[None]:
    """Flags as they were, before and after."""
    with flagsaver.flagsaver():
        yield


def parsed(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """As the command line has them; ml_collections looks for fields in sys.argv."""
    monkeypatch.setattr("sys.argv", ["main", *arguments])
    command.parse_flags(["main", *arguments])


def test_a_field_without_config_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader of the docs would be told that a field of the config is unknown, and not how to write it."""
    said = refusal(parsed, monkeypatch, "--mesh.data=8")
    assert said == "unknown flag --mesh.data; did you mean --config.mesh.data?"


@pytest.mark.parametrize(
    "arguments, parts",
    [
        (
            ("--users=a", "--mode=train"),
            ("--users goes with --mode=recommend, not with --mode=train",),
        ),
        (
            ("--since=a", "--mode=evaluate"),
            ("--since goes with --mode=all, prepare, train, refresh, not with --mode=evaluate",),
        ),
        (("--runs=a", "--mode=train"), ("--runs goes with --mode=report",)),
        (
            ("--out=a", "--mode=train"),
            ("--out goes with --mode=recommend, export, represent, audit, report",),
        ),
        (("--ratings=a",), ("--ratings goes with --mode=audit, not with --mode=all",)),
        (("--dry-run", "--mode=train"), ("--dry-run goes with --mode=prepare",)),
        (("--workdir=a", "--mode=report"), ("--workdir goes with", "not with --mode=report")),
        (("--runs=", "--mode=report"), ("--runs is empty",)),
        (("--out=r.xlsx", "--mode=recommend"), ("--out: 'r.xlsx'", ".parquet, .csv, .tsv, .jsonl")),
        (("--out=gs://a", "--mode=report"), ("--out: 'gs://a' is an address",)),
        (("--workdir=s3://a",), ("--workdir: 's3://a' is an address",)),
    ],
)
def test_flags_of_another_mode(
    arguments: tuple[str, ...], parts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flag would be dropped without a word: --users with --mode=train, and everybody is served later."""
    parsed(monkeypatch, *arguments)
    assert_names(refusal(command.check_flags), parts)


def test_a_workdir_without_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistyped workdir would be answered by a message that does not name it."""
    parsed(monkeypatch, "--workdir=runs/mistyped", "--mode=recommend")
    assert_names(
        refusal(command.checked_config), ("--workdir: runs/mistyped", "config.json", "--config")
    )


def test_the_workdir_of_a_run_with_equal_rates(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that an earlier version trained with equal dropouts could not be opened."""
    with_equal_rates(tmp_path)
    parsed(monkeypatch, f"--workdir={tmp_path}", "--mode=evaluate")
    assert command.checked_config().model.dropout == (0.2, 0.2)


@pytest.mark.parametrize("of_workdir", [True, False])
def test_a_flag_with_equal_rates(
    of_workdir: bool, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One model would be trained twice."""
    with_equal_rates(tmp_path)
    config = f"--workdir={tmp_path}" if of_workdir else "--config=configs/quickstart.py"
    parsed(monkeypatch, config, "--config.model.dropout=(0.3,0.3)")
    said = refusal(command.checked_config)
    assert_names(said, ("config.model.dropout: (0.3, 0.3)", "different rates"))


@pytest.mark.parametrize("field", ["kernels", "model.kernels"])
def test_the_flag_of_kernels_is_named_as_it_was_written(
    field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two fields share a value: the message would name the one that the user did not write."""
    parsed(monkeypatch, "--config=configs/quickstart.py", f"--config.{field}=x")
    message = refusal(command.checked_config)
    assert_names(message, (f"config.{field}: 'x'", "expected one of auto, xla, backbone"))
    assert ("the same setting as config.kernels" in message) == (field == "model.kernels")


def test_either_flag_sets_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The models would have other kernels than the config says."""
    parsed(monkeypatch, "--config=configs/quickstart.py", "--config.model.kernels=xla")
    config = command.checked_config()
    assert config.kernels == config.model.kernels == "xla"


def test_a_plan_of_an_earlier_run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--mode=plan --workdir=RUN` said that the workdir has no config.json, whatever it had."""
    save_config(Config().with_fields({"model.features": 32}), tmp_path)
    parsed(monkeypatch, "--mode=plan", f"--workdir={tmp_path}")
    assert command.checked_config().model.features == 32


@pytest.mark.parametrize(
    ("workdir", "parts"),
    [
        (("--workdir=runs/none",), ("runs/none holds no config.json", "--config for a new one")),
        ((), ("--mode=plan: which config?", "--workdir of an earlier run")),
    ],
)
def test_a_plan_of_no_config(
    workdir: tuple[str, ...], parts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who plans would be told to give a workdir, which a plan does not need."""
    parsed(monkeypatch, "--mode=plan", *workdir)
    said = refusal(command.checked_config)
    assert_names(said, (*parts, "--config=configs/quickstart.py --mode=plan"))


def test_every_flag_has_its_modes() -> None:
    """A new flag would be read by some modes and dropped by others."""
    own = {flag.name for flag in flags.FLAGS.get_key_flags_for_module(command)}
    assert own == {*command.MODES_OF, "mode"}


@pytest.mark.parametrize(
    "flag, parts",
    [
        (
            "--config.train.batch_size=64.5",
            ("--config.train.batch_size=64.5", "'64.5' is no whole number"),
        ),
        ("--config.model.row_norm=wide", ("--config.model.row_norm=wide", "'wide' is no number")),
        ("--config.eval.full=maybe", ("--config.eval.full=maybe",)),
        ("--mode=magic", ("--mode=magic", "all|prepare|train")),
        ("--workdri=a", ("workdri", "workdir")),
        ("--config.train.seeds=(1,", ("seeds",)),
    ],
)
def test_values_that_cannot_be_read(
    flag: str, parts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A traceback, or a message without the flag's name; a tuple that is none is refused when its values are checked."""
    try:
        message = refusal(parsed, monkeypatch, "--config=configs/quickstart.py", flag)
    except BaseException:
        message = refusal(command.checked_config)
    assert_names(message, parts)


@pytest.mark.parametrize(
    ("path", "source", "name"),
    [("folder", "files", default_config().data.name), ("", "synthetic", "synthetic-shop")],
)
def test_checked_config_settles_the_source(
    path: str, source: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flags would not stand above what a source has, for they are looked up by another name."""
    parsed(
        monkeypatch,
        "--config=configs/quickstart.py",
        "--config.model.row_norm=2.5",
        f"--config.data.path={path}",
    )
    config = command.checked_config()
    assert (config.data.source, config.model.row_norm, config.data.name) == (source, 2.5, name)


def test_a_point_in_time_of_a_file_is_not_ignored(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results of a config file would be of another split than its author meant; workdirs of earlier runs have such files."""
    (tmp_path / "own.py").write_text(
        "from grasp_jax.config import default_config\n\n\ndef get_config():\n    config = default_config()\n"
        "    config.data.source = 'synthetic'\n    config.data.valid_after = '2019-01-01'\n    return config\n"
    )
    file = f"--config={tmp_path / 'own.py'}"
    parsed(monkeypatch, file)
    message = refusal(command.checked_config)
    assert_names(message, ("config.data.valid_after: '2019-01-01'", "data.split='leave_one_out'"))
    earlier = Config().with_fields({"data.source": "synthetic", "data.valid_after": "2019-01-01"})
    save_config(earlier, tmp_path)
    parsed(monkeypatch, f"--workdir={tmp_path}")
    assert command.checked_config().data.valid_after == "2019-01-01"


def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder called ~ would be made where one stands."""
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    said: list[str] = []
    monkeypatch.setattr(compiled.logger, "warning", said.append)
    monkeypatch.setattr(compiled, "in_use", lambda: False)
    compiled.keep("~/.cache/grasp_jax")
    assert len(said) == 1 and "compiled programs are not kept" in said[0]


def test_the_last_line_names_what_was_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reader of "everything is in WORKDIR" would look for the file of --out there."""
    monkeypatch.setattr(command, "join", lambda: None)
    monkeypatch.setattr(command.PREEMPTION, "listen", lambda: None)
    monkeypatch.setattr(command, "run_of_flags", lambda: (pathlib.Path("runs/shop"), None))
    monkeypatch.setattr(command, "run_mode", lambda *_: None)
    last = []
    for out in ((), ("--out=r.csv",)):
        parsed(monkeypatch, "--workdir=runs/shop", "--mode=recommend", *out)
        command.main(["main"])
        last.append(capsys.readouterr().out.rstrip().partition("; ")[2])
    assert last == ["everything is in runs/shop", "the result is in r.csv"]
