"""The flags of `grasp_jax.main`: what each mode reads, whether it can be meant, and the experiment that they name."""

import os
import re
import time
from collections.abc import Sequence

import jax
from absl import flags
from ml_collections import config_flags

from grasp_jax import config as configuration
from grasp_jax.config_checks import check_config
from grasp_jax.config_dict import ConfigDict
from grasp_jax.config_file import ConfigFileParser, check_overrides
from grasp_jax.errors import UserError
from grasp_jax.experiment import Experiment
from grasp_jax.parallel.processes import PREEMPTION, join
from grasp_jax.paths import check_file, check_folder
from grasp_jax.serving.writers import SUFFIXES
from grasp_jax.stages import STAGES, plan, report, run_stage

FLAGS = flags.FLAGS
config_flags.DEFINE_config_file("config", None, "File with get_config([variant]); any field by --config.a.b=value.", lock_config=True)
FLAGS["config"].parser = ConfigFileParser()  # ml_collections' own says little of a file that fails
flags.DEFINE_string("workdir", None, "Folder of this run: config, knowledge, checkpoints, metrics and results.")
flags.DEFINE_enum("mode", "all", [*STAGES, "report", "plan"], "Stage to run; each finds what earlier ones left in the workdir.")
flags.DEFINE_boolean("dry-run", False, "prepare: say what a language model would be asked, how many tokens and at what cost; ask nothing.")
flags.DEFINE_boolean("allow-older", False, "Where the newest model of a run is damaged, use the newest whole one.")
flags.DEFINE_string("since", None, "prepare: an earlier day's knowledge bank, whose unchanged rows are kept.")
flags.DEFINE_string("users", None, "recommend: file with one user id per line; without it, every user.")
flags.DEFINE_string("ratings", None, "audit: the sheet of an earlier audit, filled in by people.")
flags.DEFINE_string("runs", None, "report: workdirs of finished runs, comma separated.")
flags.DEFINE_string("out", None, "recommend: a file .parquet, .csv, .tsv or .jsonl; report and audit: a folder.")


MODES_OF = {  # the modes that read a flag; those that are not here all modes read
    "config": (*STAGES, "plan"),
    "workdir": (*STAGES, "plan"),
    "dry-run": ("prepare",),
    "allow-older": ("evaluate", "recommend", "report", "all", "train"),
    "since": ("all", "prepare", "train", "refresh"),
    "users": ("recommend",),
    "ratings": ("audit",),
    "runs": ("report",),
    "out": ("recommend", "audit", "report"),
}


def main(arguments: Sequence[str]) -> None:
    refuse_left_over(arguments)
    join()
    PREEMPTION.listen()  # again after JAX, which would have SIGTERM for itself
    check_flags()
    if FLAGS.mode == "report":
        report(FLAGS)
        return
    if FLAGS.mode == "plan":
        plan(checked_config(), FLAGS)
        return
    started = time.perf_counter()
    experiment = asked_for()
    run_stage(FLAGS.mode, experiment, FLAGS)
    print(f"{FLAGS.mode} done in {time.perf_counter() - started:.0f} s; everything is in {experiment.workdir}")


def check_flags() -> None:
    """Raises UserError for a flag that the mode does not read, and for a file or folder that cannot be one."""
    for name, modes in MODES_OF.items():
        value = FLAGS[name].value
        if value is None or value is False:
            continue
        if FLAGS.mode not in modes:
            raise UserError(f"--{name} goes with --mode={', '.join(modes)}, not with --mode={FLAGS.mode}; leave it out")
        if isinstance(value, str) and not value.strip():
            raise UserError(f"--{name} is empty; expected a value, or no such flag")
    if FLAGS.workdir is not None:
        check_folder(FLAGS.workdir, "--workdir")
    if FLAGS.out is not None and FLAGS.mode == "recommend":
        check_file(FLAGS.out, "--out", SUFFIXES)
    elif FLAGS.out is not None:
        check_folder(FLAGS.out, "--out")


def refuse_left_over(arguments: Sequence[str]) -> None:
    """Raises UserError for an argument that is no flag."""
    if len(arguments) > 1:
        raise UserError(f"left-over argument {arguments[1]!r}; write flags as --name=value, with no space")


def asked_for() -> Experiment:
    """The experiment that the flags name, its config checked."""
    if FLAGS.config is not None and FLAGS.workdir is None:
        raise UserError("--workdir is needed too, as in --config=configs/quickstart.py --workdir=runs/quickstart")
    checked_config()
    workdir = check_folder(FLAGS.workdir, "--workdir")
    configuration.check_workdir(FLAGS.config, workdir)
    _keep_compiled(FLAGS.config.compilation_cache)
    experiment = Experiment(FLAGS.config, workdir, FLAGS.mode == "refresh", bool(FLAGS["allow-older"].value))
    if FLAGS.mode not in ("prepare", "audit"):
        _ = experiment.mesh  # if devices are missing, say so before an hour of preparation
    return experiment


def _keep_compiled(folder: str) -> None:
    """Compiled programs are kept in a folder for later processes; without one, none are."""
    if not folder:
        return
    folder = os.path.expanduser(folder)
    if folder.startswith("~"):
        print("compiled programs are not kept, for there is no home folder: config.compilation_cache may name another")
        return
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def checked_config() -> ConfigDict:
    """The config that the flags name, with the source of its data settled."""
    if FLAGS.config is None:
        example = "--config=configs/quickstart.py --workdir=runs/quickstart"
        raise UserError(f"--config and --workdir are needed, as in {example}; --mode=plan needs --config alone")
    from grasp_jax.models.methods import METHODS
    from grasp_jax.models.recommender import BACKBONES

    if FLAGS.since:
        FLAGS.config.knowledge.since = FLAGS.since
    check_config(FLAGS.config, tuple(METHODS), tuple(BACKBONES))
    configuration.resolve_source(FLAGS.config, config_flags.get_override_values(FLAGS["config"]))
    check_config(FLAGS.config, tuple(METHODS), tuple(BACKBONES))  # with what the source has otherwise
    if FLAGS.config.knowledge.path:
        check_folder(FLAGS.config.knowledge.path, "config.knowledge.path")
    return FLAGS.config


def parse_flags(arguments: Sequence[str]) -> list[str]:
    """Parses the command line; whatever is wrong with it becomes one line."""
    check_overrides(arguments)
    try:
        return FLAGS(list(arguments))
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OverflowError, SyntaxError, RecursionError) as error:
        raise UserError(_one_line(error)) from error


def _one_line(error: Exception) -> str:
    """What absl and ml_collections say of a flag, whose name comes first."""
    said = " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
    said = re.sub(r"invalid literal for int\(\) with base \d+: ('.*')$", r"\1 is no whole number", said)
    said = re.sub(r"could not convert string to float: ('.*')$", r"\1 is no number", said)
    return said if len(said) <= 400 else f"{said[:400]}..."
