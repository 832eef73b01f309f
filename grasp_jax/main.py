"""`python -m grasp_jax.main --config=configs/NAME.py[:VARIANT] --workdir=DIR [--mode=all|prepare|train|evaluate|recommend|audit]`.

`--mode=report --runs=DIR1,DIR2 --out=DIR` needs no config: it reads what runs have left. `--mode=plan` needs no workdir: it prints what
a config needs of devices, and trains nothing.
"""

import os
import pathlib
import sys
import time
from collections.abc import Callable, Sequence

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from grasp_jax import config as configuration
from grasp_jax.config_dict import ConfigDict
from grasp_jax.errors import UserError
from grasp_jax.experiment import Experiment
from grasp_jax.files import disk_is_full
from grasp_jax.parallel.processes import PREEMPTION, join
from grasp_jax.stages import STAGES, plan, report, run_stage

FLAGS = flags.FLAGS
config_flags.DEFINE_config_file("config", None, "File with get_config([variant]); any field by --config.a.b=value.", lock_config=True)
flags.DEFINE_string("workdir", None, "Folder of this run: config, knowledge, checkpoints, metrics and results.")
flags.DEFINE_enum("mode", "all", [*STAGES, "report", "plan"], "Stage to run; each finds what earlier ones left in the workdir.")
flags.DEFINE_boolean("dry-run", False, "prepare: say what a language model would be asked, how many tokens and at what cost; ask nothing.")
flags.DEFINE_boolean("allow-older", False, "Where the newest model of a run is damaged, use the newest whole one.")
flags.DEFINE_string("since", None, "prepare: an earlier day's knowledge bank, whose unchanged rows are kept.")
flags.DEFINE_string("users", None, "recommend: file with one user id per line; without it, every user.")
flags.DEFINE_string("ratings", None, "audit: the sheet of an earlier audit, filled in by people.")
flags.DEFINE_string("runs", None, "report: workdirs of finished runs, comma separated.")
flags.DEFINE_string("out", None, "recommend: Parquet file, by default WORKDIR/recommendations.parquet; report and audit: a folder.")


def main(arguments: Sequence[str]) -> None:
    refuse_left_over(arguments)
    join()
    PREEMPTION.listen()  # after JAX, which would have SIGTERM for itself
    if FLAGS.mode == "report":
        report(FLAGS)
        return
    if FLAGS.mode == "plan":
        plan(checked_config(), FLAGS)
        return
    if FLAGS["dry-run"].value and FLAGS.mode != "prepare":
        raise UserError(f"--dry-run goes with --mode=prepare, not with --mode={FLAGS.mode}")
    if FLAGS.ratings is not None and FLAGS.mode != "audit":
        raise UserError(f"--ratings goes with --mode=audit, not with --mode={FLAGS.mode}")
    started = time.perf_counter()
    experiment = asked_for()
    run_stage(FLAGS.mode, experiment, FLAGS)
    print(f"{FLAGS.mode} done in {time.perf_counter() - started:.0f} s; everything is in {experiment.workdir}")


def refuse_left_over(arguments: Sequence[str]) -> None:
    """Raises UserError for an argument that is no flag."""
    if len(arguments) > 1:
        raise UserError(f"left-over argument {arguments[1]!r}; write flags as --name=value, with no space")


def asked_for() -> Experiment:
    """The experiment that the flags name, its config checked."""
    if FLAGS.config is not None and FLAGS.workdir is None:
        raise UserError("--workdir is needed too, as in --config=configs/quickstart.py --workdir=runs/quickstart")
    checked_config()
    workdir = pathlib.Path(FLAGS.workdir)
    configuration.check_workdir(FLAGS.config, workdir)
    if FLAGS.config.compilation_cache:
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser(FLAGS.config.compilation_cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    experiment = Experiment(FLAGS.config, workdir, FLAGS.mode == "refresh", bool(FLAGS["allow-older"].value))
    if FLAGS.mode not in ("prepare", "audit"):
        _ = experiment.mesh  # if devices are missing, say so before an hour of preparation
    return experiment


def checked_config() -> ConfigDict:
    """The config that the flags name."""
    if FLAGS.config is None:
        example = "--config=configs/quickstart.py --workdir=runs/quickstart"
        raise UserError(f"--config and --workdir are needed, as in {example}; --mode=plan needs --config alone")
    from grasp_jax.models.methods import METHODS
    from grasp_jax.models.recommender import BACKBONES

    if FLAGS.since:
        FLAGS.config.knowledge.since = FLAGS.since
    configuration.validate(FLAGS.config, tuple(METHODS), tuple(BACKBONES))
    for method in FLAGS.config.by_method:
        if method not in METHODS:
            raise UserError(f"config.by_method.{method}: no such method; expected one of {', '.join(METHODS)}")
        configuration.validate(configuration.of_method(FLAGS.config, method), tuple(METHODS), tuple(BACKBONES))
    return FLAGS.config


def parse_flags(arguments: Sequence[str]) -> list[str]:
    """Parses the command line; whatever is wrong with it becomes one line."""
    try:
        return FLAGS(list(arguments))
    except (AttributeError, KeyError) as error:  # what ConfigDict raises for a key that it lacks
        raise UserError(f"unknown config key {_first_line(error)}; grasp_jax/config.py lists every key") from error
    except (flags.Error, TypeError, ValueError) as error:
        raise UserError(_first_line(error)) from error
    except OSError as error:
        named = [argument for argument in arguments if argument.startswith("--config=")]
        name = named[-1] if named else "--config"
        raise UserError(f"{name}: no such config file; configs/ holds those that come with the project") from error


def _first_line(error: Exception) -> str:
    """Its first line; and its last where ml_collections puts the traceback of a config file between them."""
    lines = str(error).strip().strip("\"'").split("\n")
    return f"{lines[0]} {lines[-1]}" if any(line.startswith("Traceback") for line in lines) else lines[0]


def run(main: Callable[[Sequence[str]], None] = main) -> None:
    """Entry point: a `UserError` or a full disk becomes one line and exit status 2."""
    logging.set_verbosity(logging.WARNING)
    try:
        app.run(main, flags_parser=parse_flags)
    except UserError as error:
        sys.exit(_failed(str(error)))
    except OSError as error:
        if not disk_is_full(error):
            if error.filename is None:
                raise
            sys.exit(_failed(f"{error.filename}: {error.strerror}; expected a path that can be read and written"))
        sys.exit(_failed(f"the disk is full ({error.filename or FLAGS.workdir}); free space and run the same command again, it resumes"))


def _failed(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    run()
