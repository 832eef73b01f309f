"""The suite: benchmarks run apart, an operation's time goes to the stage that its name says, and the figures agree with each other."""

import argparse
import itertools
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from benchmarks import evaluation, profile, record, report, run, timing, trace
from benchmarks.factorised import FactorisedStep
from benchmarks.lengths import log_to_time
from benchmarks.limits import Limits
from benchmarks.project import count_project
from benchmarks.sections import kernel_meaning, meaning, search, steps
from benchmarks.trace import Event, Module, stage_of
from benchmarks.workload import QUICK, Sizes
from grasp_jax.data.split import leave_one_out
from grasp_jax.errors import UserError
from grasp_jax.models.encoders.holistic import HolisticEncoder
from grasp_jax.report.formats import markdown

TINY = Sizes(batch_size=8, width=24, max_length=8, features=8, hidden=16)


@pytest.mark.parametrize(
    ("op_name", "stage"),
    [
        (
            "jit(f)/while/body/vmap(jvp(Model.scores))/project/encoder.project/dot_general",
            "project",
        ),
        ("jit(f)/while/body/vmap(transpose(jvp(project)))/dot_general", "project"),
        ("jit(f)/project/gather/gather", "gather"),  # the innermost
        (
            "jit(f)/backbone/while/body/closed_call/gather",
            "backbone",
        ),  # the last part is a primitive that is called like a stage
        ("jit(f)/jit(update)/add", None),  # a function that is called like a stage
        ("jit(f)/projected/add", None),
        (
            "jit(f)/while/body/vmap(jvp(SequenceModel.training_scores))/encoder.head_input/add",
            "gate",
        ),  # by flax's names
        (
            "jit(f)/vmap(jvp(SequenceModel.training_scores))/SequenceModel.training_features/encoder.item_features/gather",
            "gather",
        ),
        ("jit(f)/vmap(transpose(jvp(SequenceModel.training_scores)))/concatenate", "loss"),
        (
            "jit(f)/vmap(jvp(SequenceModel.training_scores))/backbone/backbone._published/add",
            "backbone",
        ),
        ("", None),
    ],
)
def test_stage_is_the_innermost_scope(op_name: str, stage: str | None) -> None:
    """Time would go to the stage around, or to one that only sounds alike."""
    assert stage_of(op_name) == stage


def test_matrix_products_without_a_name_go_where_their_data_goes() -> None:
    """XLA drops the names of batched products: a layer's time would go to no stage, to the next one or to the update."""

    def one_step(weights: tuple[jax.Array, jax.Array, jax.Array], rows: jax.Array) -> Any:
        def loss(weights: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
            first, last, bias = weights
            with jax.named_scope("project"):
                joined = jnp.concatenate(
                    [rows @ first[:, :24], jnp.flip(rows) @ first[:, 24:]], axis=-1
                )
            with jax.named_scope("gate"):
                vectors = jnp.sin(joined) @ last + bias
            with jax.named_scope("backbone"):
                states = jnp.tanh(vectors)
            with jax.named_scope("loss"):
                return (states**2).sum()

        gradient = jax.grad(loss)(weights)
        with jax.named_scope("update"):
            return jax.tree.map(lambda leaf, way: leaf - 0.1 * jnp.sign(way), weights, gradient)

    sizes = (1, 64, 48), (1, 48, 40), (1, 40)
    lowered = jax.jit(jax.vmap(one_step)).lower(
        tuple(jnp.ones(size) for size in sizes), jnp.ones((1, 80, 64))
    )
    text = lowered.compile().as_text() or ""
    module, entry = Module(text), text.split("\nENTRY", 1)[1]
    ran = [name for name in module.instructions if f" %{name} = " in entry]
    products = [
        (module.scope(name).stage, module.scope(name).backward)
        for name in ran
        if module.is_product(name)
    ]
    forward, backward = ("project", False), ("project", True)
    assert sorted(products) == sorted(
        [forward, forward, backward, backward, ("gate", False), ("gate", True), ("gate", True)]
    )


def test_operation_lasts_until_its_end_is_marked() -> None:
    """A product that a CPU's threads go on with would count for the time in which it was handed over."""
    events = [
        Event("dot", 0.0, 2.0),
        Event("add", 3.0, 4.0),
        Event("dot", 10.0, 12.0),
        Event("dot", 20.0, 21.0),
    ]
    marks = {"dot": [7.0, 11.5], "add": [3.9]}
    ends = [(event.instruction, event.end) for event in trace.with_ends(events, marks)]
    assert ends == [("dot", 7.0), ("add", 4.0), ("dot", 12.0), ("dot", 21.0)]


def test_time_is_divided_among_operations_in_flight() -> None:
    """A loop would be counted in addition to its body, or the times of two threads would add up to more than the time that passed."""
    events = [
        Event("while", 0.0, 10.0),
        Event("a", 1.0, 5.0),
        Event("b", 3.0, 7.0),
        Event("c", 12.0, 13.0),
    ]
    times, idle = trace.shared_time(events, {"while"})
    assert times == {"while": 1.0 + 3.0, "a": 2.0 + 1.0, "b": 1.0 + 2.0, "c": 1.0} and idle == 2.0
    assert sum(times.values()) + idle == 13.0


def test_count_of_the_projection_is_that_of_xla() -> None:
    """The share of the limit would be of another number of operations than the model's."""
    encoder, rows = (
        HolisticEncoder(TINY.width, TINY.features, (TINY.hidden,)),
        jnp.ones((50, TINY.width)),
    )
    params = encoder.init(jax.random.key(0), rows, rows, method="project")

    def loss(params: Any) -> jax.Array:
        return (encoder.apply(params, rows, rows, method="project") ** 2).sum()

    compiled = jax.jit(jax.grad(loss)).lower(params).compile()
    assert compiled.cost_analysis()["flops"] == pytest.approx(
        count_project(TINY, 50)["flops"], rel=0.2
    )


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The record of a quick run, of a model with text and of one without; GRUs, for they compile fast."""
    out = tmp_path_factory.mktemp("profile") / "profile.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            profile, "limits", lambda quick: Limits({"float32": 1e9, "bfloat16": 1e9}, 1e9)
        )
        profile.main(["--quick", "--models=grasp-gru4rec,plain-gru4rec", f"--out={out}"])
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def profiles(profiled: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By name of the model."""
    return {outcome["model"]: outcome for outcome in profiled["models"]}


def test_stages_add_up(profiles: dict[str, dict[str, Any]]) -> None:
    """Time would be counted twice or not at all."""
    for outcome in profiles.values():
        assert sum(row["share"] for row in outcome["stages"]) == pytest.approx(1.0)
        assert sum(outcome["attributed"].values()) + outcome["unattributed"] == pytest.approx(1.0)
        assert (
            outcome["unattributed"] < 0.5 and outcome["attributed"]["by_name"] > 0.1
        )  # a busy machine spends more beside the named ones
        shares = [row["share"] for row in outcome["operations"]]
        assert (
            len(shares) == profile.TOP
            and shares == sorted(shares, reverse=True)
            and 0 < sum(shares) <= 1
        )
        assert 0 < outcome["busy_seconds_per_step"] <= outcome["traced_seconds_per_step"]
        found = {(row["stage"], row["backward"]) for row in outcome["stages"] if row["share"] > 0}
        assert {
            ("gather", False),
            ("backbone", False),
            ("backbone", True),
            ("loss", False),
            ("update", False),
        } <= found
        assert ("update", True) not in found


def test_projection_is_found_where_a_model_has_text(profiles: dict[str, dict[str, Any]]) -> None:
    """The profile would name a projection in a model that has none, or miss it."""
    of_project = {
        name: [row["share"] for row in own["stages"] if row["stage"] == "project"]
        for name, own in profiles.items()
    }
    assert min(of_project["grasp-gru4rec"]) > 0 and of_project["plain-gru4rec"] == [0, 0]
    assert "project" not in profiles["plain-gru4rec"]
    project = profiles["grasp-gru4rec"]["project"]
    share = sum(of_project["grasp-gru4rec"]) * profiles["grasp-gru4rec"]["busy_seconds_per_step"]
    assert project["seconds_per_step"] == pytest.approx(share)
    least = max(project["flops"], project["bytes"]) / 1e9
    assert project["share_of_limit"] == pytest.approx(least / project["seconds_per_step"])


def test_profiles_become_tables(profiled: dict[str, Any]) -> None:
    """The page would show the stages of one model under the name of another."""
    stages, *tops = steps.profile(profiled)
    assert stages.header == ["stage", "grasp-gru4rec", "plain-gru4rec"]
    project = next(row for row in stages.rows if row[0] == "project")
    assert project[2] == "0.0% + 0.0%" and project[1] != project[2]
    assert [len(table.rows) for table in tops] == [profile.TOP] * 2 and "grasp-gru4rec" in tops[
        0
    ].title
    assert "project" in profile.show(profiled["models"][0])


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], FactorisedStep]:
    """The record of a quick run, and the model that it was of."""
    out, steps = tmp_path_factory.mktemp("evaluation") / "evaluation.json", []

    def remembered(*arguments: Any) -> FactorisedStep:
        steps.append(FactorisedStep(*arguments))
        return steps[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "FactorisedStep", remembered)
        evaluation.main(
            [
                "--quick",
                "--models=grasp-gru4rec",
                "--full-users=96",
                "--plain-users=2",
                f"--out={out}",
            ]
        )
    return json.loads(out.read_text()), steps[0]


def test_quick_evaluation_figures_agree(evaluated: tuple[dict[str, Any], FactorisedStep]) -> None:
    """The extrapolation would be to other users, or the speed-up not that of the seconds."""
    record = evaluated[0]
    (sampled,), full = record["sampled"], record["full"]
    assert sampled["share_of_epoch"] == pytest.approx(
        sampled["evaluation_seconds"] / sampled["epoch_seconds"]
    )
    assert (
        sampled["users"] == full["users"]
        and sampled["candidates"] == 101
        and sampled["temporary_bytes"] > 0
    )
    ours, plain = full["factorised"], full["as_written"]
    assert (ours["sampled_users"], plain["sampled_users"]) == (96, 2) and 0 <= full[
        "largest_difference"
    ] <= evaluation.PARITY_LIMIT
    assert plain["extrapolated_seconds"] == pytest.approx(full["users"] * plain["seconds_per_user"])
    assert ours["extrapolated_seconds"] == pytest.approx(
        ours["seconds_once"] + full["users"] * ours["seconds_per_user"]
    )
    assert full["speed_up"] == pytest.approx(
        plain["extrapolated_seconds"] / ours["extrapolated_seconds"]
    )
    assert ours["extra_bytes"] > 0 and plain["extra_bytes"] > 0
    assert all(
        len(row) == len(table.header) for table in search.evaluation(record) for row in table.rows
    )


def test_unequal_scores_are_not_timed(
    evaluated: tuple[dict[str, Any], FactorisedStep], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two ways of scoring would be compared that do not compute the same."""
    monkeypatch.setattr(
        evaluation, "holistic_attention", lambda u, v, i, j: jnp.concatenate([i, j, i, j], axis=-1)
    )  # gates of one
    evaluation.plain_scores.clear_cache()
    with pytest.raises(UserError, match="cannot be compared"):
        evaluation.time_full(
            evaluated[1], leave_one_out(log_to_time(quick=True), QUICK.max_length), QUICK, 64, 2
        )
    evaluation.plain_scores.clear_cache()


def test_a_failing_benchmark_does_not_stop_the_others(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A failure would be lost, or cost the results of the benchmarks after it."""
    (tmp_path / "kept.py").write_text("import sys\nprint('ran', *sys.argv[1:])\n")
    (tmp_path / "broken.py").write_text("import sys\nsys.exit(3)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    suites: dict[str, dict[str, run.Benchmark]] = {"gpu": {}}
    suites["cpu"] = {
        "first": run.Benchmark("broken"),
        "second": run.Benchmark("kept", ("--models=all",)),
        "long": run.Benchmark("kept", ("long",), only_named=True),
    }
    assert run.main([], suites) == 1
    said = capfd.readouterr()
    lines = said.out.splitlines()
    assert (
        lines[0].startswith("benchmark first: failed with status 3, ")
        and lines[1] == "ran --models=all"
    )
    assert (
        lines[2].startswith("benchmark second: ok, ")
        and len(lines) == 3
        and "failed: first" in said.err
    )
    assert run.main(["--only=long"], suites) == 0 and "ran long" in capfd.readouterr().out
    assert (
        run.main(["--only=second", "--quick"], suites) == 0
        and "ran --quick\n" in capfd.readouterr().out
    )
    assert run.main(["--only=second", f"--out={tmp_path}"], suites) == 0
    assert f"ran --models=all --out={tmp_path}\n" in capfd.readouterr().out
    with pytest.raises(SystemExit) as refused:
        run.main(["--only=second,third"], suites)
    assert (
        refused.value.code == 2
        and "third; expected some of first, second, long" in capfd.readouterr().err
    )


def test_a_suite_ends_with_its_time(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A run on a rented GPU would go on past its ten minutes, or leave out benchmarks without a word."""
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    slow = run.Benchmark("slow")
    options = run.Options(seconds=2.0)
    assert run.run({"first": slow, "second": slow}, [], options) == ["first", "second"]
    said = capfd.readouterr().out.splitlines()
    assert said[0].startswith("benchmark first: stopped, the time is over") and said[1].startswith(
        "benchmark second: not begun"
    )


def test_benchmarks_compile_side_by_side_and_are_timed_one_at_a_time(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A figure would be taken while another benchmark uses the device, or a rented GPU wait for one compilation after another."""
    program = """
import os, pathlib, time
from benchmarks.timing import only_compiles
begin, folder, compiles = time.time(), pathlib.Path(__file__).parent, only_compiles()
if compiles:  # waits for the other one, which would else wait for it
    (folder / f"compiles-{os.getpid()}").touch()
    while time.time() < begin + 120 and len(list(folder.glob("compiles-*"))) < 2:
        time.sleep(0.01)
time.sleep(0.1)
with open(folder / "times", "a") as file:
    file.write(f"{compiles} {begin} {time.time()}\\n")
"""
    (tmp_path / "timed.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{pathlib.Path(run.__file__).parent.parent}")
    suite = {name: run.Benchmark("timed", compiles=True) for name in ("one", "other")}
    suite["last"] = run.Benchmark("timed")
    assert run.run(suite, [], run.Options(at_once=2)) == []
    lines = [line.split() for line in (tmp_path / "times").read_text().splitlines()]
    compiled, timed = (
        sorted((float(a), float(b)) for only, a, b in lines if only == kind)
        for kind in ("True", "False")
    )
    assert len(compiled) == 2 and len(timed) == 3
    assert compiled[1][0] < compiled[0][1] <= timed[0][0]
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(timed))


def test_process_that_compiles_keeps_nothing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The times of a process beside which others compiled would become the record."""
    out, calls = tmp_path / "kept.json", []
    given = argparse.Namespace(quick=False, out=out)
    monkeypatch.setenv(timing.COMPILE, "1")
    timing.interleaved({"one": lambda: calls.append(1)}, rounds=5)
    assert len(calls) == 2
    record.keep("kept", {}, record.Contention(), given, "found")
    assert not out.exists() and not capsys.readouterr().out
    monkeypatch.delenv(timing.COMPILE)
    record.keep("kept", {}, record.Contention(), given, "found")
    assert out.exists()


def test_every_benchmark_of_the_suites_is_there() -> None:
    """A name would end in an import error after an hour of other benchmarks."""
    root = pathlib.Path(run.__file__).parent
    for benchmark in (*run.CPU.values(), *run.GPU.values()):
        name = benchmark.module.removeprefix("benchmarks.")
        source = (root / f"{name}.py").read_text()
        assert f'parser_of("{name}", __doc__)' in source and '__name__ == "__main__"' in source
    assert run.CPU["bank"].only_named
    for name in ("profile", "evaluation", "retrieval", "memory"):
        assert all(f"{name}-{device}" in report.SECTIONS[device] for device in ("cpu", "gpu"))


def test_page_takes_one_table_or_several(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record with several tables would break the page, or show the first alone."""
    table = report.Table("t", "One title", ["a"], [["1"]])
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(
        report,
        "SECTIONS",
        {"cpu": {"x-cpu": lambda record: [table, table]}, "gpu": {"y-gpu": lambda record: table}},
    )
    for name in ("x-cpu", "y-gpu"):
        (tmp_path / f"{name}.json").write_text("{}")
    assert report.page().count(markdown(table)) == 3


def test_committed_performance_pages_are_those_of_the_records() -> None:
    """A figure would stand on a page that no record has, or a sentence contradict its table."""
    for path, text in ((report.FIRST_SCREEN, report.first_screen()), (report.PAGE, report.page())):
        assert path.read_text(encoding="utf-8") == text, "run python -m benchmarks.report"


def test_every_table_has_a_conclusion() -> None:
    """A reader would have to work out from hundreds of figures what a benchmark shows."""
    for sections in report.SECTIONS.values():
        for name, own in report.kept(sections).items():
            assert meaning.meaning(name, own).endswith("."), name


def test_a_conclusion_changes_with_its_record() -> None:
    """A sentence would be repeated after a new measurement that contradicts it."""
    record = json.loads((report.RESULTS / "step-cpu-256.json").read_text())
    assert "give nearly the whole gain" in meaning.step(record)
    record["steps"] = [row for row in record["steps"] if not row["name"].startswith("packed")]
    assert "does not say how much of the gain" in meaning.step(record)
    record = json.loads((report.RESULTS / "retrieval-cpu.json").read_text())
    assert "exact search is the default" in meaning.retrieval(record)
    for row in record["ways"]:
        row["search_seconds"] *= 5 if row["way"] == "exact" else 1
    assert "exact search is the default" not in meaning.retrieval(record)
    record = json.loads((report.RESULTS / "profile-cpu.json").read_text())
    assert "a smaller hidden layer, or bfloat16" in meaning.profile(record)
    for row in (row for model in record["models"] for row in model["stages"]):
        row["share"] = 0.9 if row["stage"] == "backbone" else 0.0
    assert "narrower text vectors hardly help" in meaning.profile(record)
    record = json.loads((report.RESULTS / "gru-gpu.json").read_text())
    record["cases"] = {"training": {"scan": {"median_ms": 1.0}, "kernel": {"median_ms": 2.0}}}
    assert kernel_meaning.gru(record) == "In training no form is faster than the plain scan."


def test_ratio_of_the_first_screen_is_rival_over_ours() -> None:
    """A ratio the wrong way up would show a loss as a lead, or a form of ours stand as a rival."""
    record = json.loads((report.RESULTS / "step-cpu-256.json").read_text())
    names = [row["name"] for row in record["steps"]]
    ours, *rivals = (row["seconds_per_step"] for row in record["steps"])
    shown = report.overview.step(record)
    assert shown.ratio == pytest.approx(min(rivals) / ours)
    assert names[0].startswith("grasp_jax") and shown.ours.startswith(f"{1e3 * ours:.3g}")
    record["steps"].insert(1, {**record["steps"][0], "seconds_per_step": 1e-9})
    assert report.overview.step(record).ratio == shown.ratio
