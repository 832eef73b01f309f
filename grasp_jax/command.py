"""The flags of `grasp_jax.main`: which mode reads which, whether their values are possible, and the run that they describe."""

import pathlib
import re
import time
from collections.abc import Callable, Sequence

import jax
from absl import flags
from ml_collections import config_flags

from grasp_jax.config import CONFIG_FILE, FIELDS, Config, check_workdir, resolve_source
from grasp_jax.config.draft import without_followed
from grasp_jax.config.rules import refuse_equal_rates
from grasp_jax.config_checks import check_config
from grasp_jax.config_file import ConfigFileParser, check_overrides
from grasp_jax.core import compiled
from grasp_jax.core.errors import UserError
from grasp_jax.core.log import logger
from grasp_jax.core.paths import check_file, check_folder
from grasp_jax.modes import MAKING, MODES, Options, plan, report, run_mode
from grasp_jax.parallel.processes import PREEMPTION, join
from grasp_jax.serving.writers import SUFFIXES
from grasp_jax.trials.run import Run, mesh_of, open_run

FLAGS = flags.FLAGS
config_flags.DEFINE_config_file(
    "config",
    None,
    "FILE.py or FILE.py:VARIANT, a Python file with get_config(); --config.SECTION.FIELD=value sets a field.",
    lock_config=True,
)
# the parser of ml_collections reports little about a file that fails
FLAGS["config"].parser = ConfigFileParser()
flags.DEFINE_string(
    "workdir", None, "Folder of this run: config, text vectors, checkpoints, metrics and results."
)
flags.DEFINE_enum(
    "mode",
    "all",
    [*MODES, "report", "plan"],
    "What to do with the workdir; a flag whose help begins with modes is for these only.",
)
flags.DEFINE_boolean(
    "dry-run",
    False,
    "prepare: print the prompts, tokens and cost of a language model, and send nothing.",
)
flags.DEFINE_boolean(
    "allow-older",
    False,
    "all, train, evaluate, recommend, refit, export, represent, report: if the newest model is damaged, use the newest"
    " undamaged one.",
)
flags.DEFINE_string(
    "since",
    None,
    "all, prepare, train, refresh: workdir or knowledge bank of an earlier day, whose vectors of unchanged texts are reused.",
)
flags.DEFINE_string(
    "users", None, "recommend: file with one user id per line; without it, every user."
)
flags.DEFINE_string("ratings", None, "audit: the sheet of an earlier audit, filled in by people.")
flags.DEFINE_string("runs", None, "report: workdirs of finished runs, comma separated.")
flags.DEFINE_string(
    "out",
    None,
    "recommend: a file .parquet, .csv, .tsv or .jsonl; export, represent, report and audit: a folder.",
)


MODES_OF = {  # the modes that read a flag; those that are not here all modes read
    "config": (*MODES, "plan"),
    "workdir": (*MODES, "plan"),
    "dry-run": ("prepare",),
    "allow-older": (
        "evaluate",
        "recommend",
        "export",
        "represent",
        "report",
        "all",
        "train",
        "refit",
    ),
    "since": ("all", "prepare", "train", "refresh"),
    "users": ("recommend",),
    "ratings": ("audit",),
    "runs": ("report",),
    "out": ("recommend", "export", "represent", "audit", "report"),
}


def main(arguments: Sequence[str]) -> None:
    refuse_left_over(arguments)
    join()
    PREEMPTION.listen()  # again after JAX, which installs its own SIGTERM handler
    check_flags()
    options = Options(
        dry_run=bool(FLAGS["dry-run"].value),
        allow_older=bool(FLAGS["allow-older"].value),
        users=FLAGS.users,
        ratings=FLAGS.ratings,
        runs=FLAGS.runs,
        out=FLAGS.out,
    )
    if FLAGS.mode in ("report", "plan"):
        PREEMPTION.remedy = "nothing is kept, and the same command starts over"
    if FLAGS.mode == "report":
        report(options)
        return
    if FLAGS.mode == "plan":
        plan(checked_config(), FLAGS.workdir)
        return
    started = time.perf_counter()
    workdir, open_it = run_of_flags()
    run_mode(FLAGS.mode, open_it, workdir, options)
    where = f"the result is in {options.out}" if options.out else f"everything is in {workdir}"
    print(f"{FLAGS.mode} done in {time.perf_counter() - started:.0f} s; {where}")


def check_flags() -> None:
    """Raises UserError for a flag that the mode does not read, and for a file or folder that cannot be one."""
    for name, modes in MODES_OF.items():
        value = FLAGS[name].value
        if value is None or value is False:
            continue
        if FLAGS.mode not in modes:
            raise UserError(
                f"--{name} goes with --mode={', '.join(modes)}, not with --mode={FLAGS.mode}; leave it out"
            )
        if isinstance(value, str) and not value.strip():
            raise UserError(f"--{name} is empty; give it a value, or leave it out")
    if FLAGS.workdir is not None:
        check_folder(FLAGS.workdir, "--workdir")
    if FLAGS.out is not None and FLAGS.mode == "recommend":
        check_file(FLAGS.out, "--out", SUFFIXES)
    elif FLAGS.out is not None:
        check_folder(FLAGS.out, "--out")


def refuse_left_over(arguments: Sequence[str]) -> None:
    """Raises UserError for an argument that is no flag."""
    if len(arguments) > 1:
        raise UserError(
            f"unexpected argument {arguments[1]!r}; write flags as --name=value, without a space"
        )


def run_of_flags() -> tuple[pathlib.Path, Callable[[], Run]]:
    """The workdir that the flags name, and what opens the run there; the config is checked.

    Raises:
      UserError: a flag or a field of the config is missing or wrong, the workdir is that of another run, or devices are missing.
    """
    if FLAGS.config is not None and FLAGS.workdir is None:
        raise UserError(
            "--workdir is needed too, as in --config=configs/quickstart.py --workdir=runs/quickstart"
        )
    config = checked_config()
    workdir = check_folder(FLAGS.workdir, "--workdir")
    check_workdir(config, workdir)
    compiled.keep(config.compilation_cache)
    if FLAGS.mode not in ("prepare", "audit"):
        # reports missing devices before an hour of preparation
        mesh = mesh_of(config)
        if mesh.size != config.mesh.data * config.mesh.table:
            logger.info(
                f"mesh: all {mesh.size} devices of the {jax.process_count()} processes share each batch; --config.mesh.data and "
                "--config.mesh.table name another arrangement"
            )
    refresh, allow_older = FLAGS.mode == "refresh", bool(FLAGS["allow-older"].value)
    makes = FLAGS.mode in MAKING
    return workdir, lambda: open_run(
        config, workdir, refresh=refresh, allow_older=allow_older, makes=makes
    )


def checked_config() -> Config:
    """The config that the flags name, checked, with the source of its data settled.

    Raises:
      UserError: no config was named, or one of its fields is wrong.
    """
    if FLAGS.config is None:
        example = "--config=configs/quickstart.py --workdir=runs/quickstart"
        of_plan = "--config=configs/quickstart.py --mode=plan"
        plans = FLAGS.mode == "plan"
        if FLAGS.workdir:
            raise UserError(
                f"--workdir: {FLAGS.workdir} holds no {CONFIG_FILE} of an earlier run; name the workdir of such a run, "
                f"or add --config for a new one, as in {of_plan if plans else example}"
            )
        if plans:
            raise UserError(
                f"--mode=plan: which config? Add --config, as in {of_plan}, or the --workdir of an earlier run"
            )
        raise UserError(
            f"--config and --workdir are needed, as in {example}; the workdir of an earlier run needs no --config, and "
            "--mode=plan needs no --workdir"
        )
    of_workdir = pathlib.Path(config_flags.get_config_filename(FLAGS["config"])).name == CONFIG_FILE
    given = config_flags.get_override_values(FLAGS["config"])
    fields = without_followed(FLAGS.config.to_dict(), given)
    refuse_equal_rates(given if of_workdir else fields, "config")
    config = Config().with_stored_fields(fields)
    if FLAGS.since:
        config = config.with_fields({"knowledge.since": FLAGS.since})
    config = resolve_source(config, given, of_workdir)
    check_config(config)
    if config.knowledge.path:
        check_folder(config.knowledge.path, "config.knowledge.path")
    return config


def parse_flags(arguments: Sequence[str]) -> list[str]:
    """Parses the command line; any error in it becomes one line."""
    arguments = with_config_of_workdir(arguments)
    check_overrides(arguments)
    try:
        return FLAGS(list(arguments))
    except (
        flags.Error,
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        OverflowError,
        SyntaxError,
        RecursionError,
    ) as error:
        raise UserError(_one_line(error)) from error


def with_config_of_workdir(arguments: Sequence[str]) -> list[str]:
    """The arguments with --config=WORKDIR/config.json, where a workdir has one and no config is named."""
    named = [argument for argument in arguments if re.match(r"--?config(=|$)", argument)]
    if named or any(re.match(r"--?mode=report$", argument) for argument in arguments):
        return list(arguments)
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name.lstrip("-") == "workdir" and name.startswith("-"):
            value = value if equals else next(iter(arguments[place + 1 : place + 2]), "")
            path = pathlib.Path(value) / CONFIG_FILE
            if value and path.is_file():
                return [arguments[0], f"--config={path}", *arguments[1:]]
    return list(arguments)


def _one_line(error: Exception) -> str:
    """The message of absl or ml_collections about a flag, with the name of the flag first."""
    message = " ".join(
        str(error.args[0] if isinstance(error, KeyError) and error.args else error).split()
    )
    message = re.sub(
        r"invalid literal for int\(\) with base \d+: ('.*')$", r"\1 is no whole number", message
    )
    message = re.sub(r"could not convert string to float: ('.*')$", r"\1 is no number", message)
    if isinstance(error, flags.UnrecognizedFlagError) and error.flagname in FIELDS:
        message = f"unknown flag --{error.flagname}; did you mean --config.{error.flagname}?"
    return message if len(message) <= 400 else f"{message[:400]}..."
