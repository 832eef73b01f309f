"""`--mode=prepare` with describing and encoding on a Ray cluster: the same functions, and the same bank.

    pip install -e '.[ray,text]'
    python launch/ray_prepare.py --config=... --workdir=... [--address=ray://HEAD:10001] [--workers=8] [--gpus-per-worker=1]

Without an address a Ray of this machine's own is started. What a worker sends back is kept at once, answers in the cache and vectors as
shards beside the bank, so kill this program or a worker at any point: the rerun asks for what is missing. Keys are read from the
environment of the workers' machines. Bounds on requests in flight and per minute are shared out among the workers.
"""

import functools
import json
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from absl import flags
from tqdm import tqdm

from grasp_jax import main as command_line
from grasp_jax.errors import UserError
from grasp_jax.experiment import Experiment
from grasp_jax.knowledge.answers import Answer, open_answers
from grasp_jax.knowledge.describe import LANGUAGE_MODELS
from grasp_jax.knowledge.encode import ENCODERS, PER_TEXT
from grasp_jax.knowledge.language_model import keys_of
from grasp_jax.knowledge.prepare import KINDS, begin
from grasp_jax.knowledge.recipe import bank_recipe
from grasp_jax.knowledge.shards import missing_shards, save_shard, shard_path
from grasp_jax.knowledge.texts import prompts_of

PROMPTS = 256  # of a task; a worker that dies loses as many answers at most

flags.DEFINE_string("address", "", "Of a Ray cluster; empty: one of this machine's own.")
flags.DEFINE_integer("workers", 2, "Processes that describe and encode.", lower_bound=1)
GPUS = flags.DEFINE_float("gpus-per-worker", 0.0, "GPUs of each.", lower_bound=0)
FLAGS = flags.FLAGS


class Collected:
    """Takes answers as a cache does, for the way home."""

    def __init__(self) -> None:
        self.answers: list[list[Any]] = []

    def add(self, key: bytes, answer: Answer) -> None:
        """One answer."""
        self.answers.append([key.hex(), *answer])


class Describer:
    """A worker that asks the language model: {"prompts": [n], "keys": [n, 2]} -> {"answers": JSON}."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = ml_collections.ConfigDict(config)

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        collected, prompts = Collected(), list(task["prompts"])
        keys = np.asarray(task["keys"], np.uint64).reshape(-1, 2)
        LANGUAGE_MODELS[self.config.describer].ask(
            np.arange(len(prompts)), keys, lambda row: str(prompts[row]), collected, self.config, "describe"
        )
        return {"answers": json.dumps(collected.answers)}


class Encoder:
    """A worker with an encoder: {"kind", "number", "texts": [n]} -> {"kind", "number", "vectors": [n, E] float32}."""

    def __init__(self, config: dict[str, Any]) -> None:
        settings = ml_collections.ConfigDict(config)
        settings.embed.cache = tempfile.mkdtemp(prefix="vectors-")  # a cache is one process's; what is to be kept travels home
        self._context = ENCODERS[settings.encoder]([], [], settings)
        self._encode = self._context.__enter__()

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        return {"kind": task["kind"], "number": task["number"], "vectors": self._encode([str(text) for text in task["texts"]])}


def describe_all(experiment: Experiment, on_cluster: Callable[..., Iterator[dict[str, Any]]]) -> None:
    """Fills the cache with the answers that it lacks."""
    config, log = experiment.knowledge, experiment.split.log
    model = LANGUAGE_MODELS[config.describer]
    prompts = dict(zip(KINDS, prompts_of(config, experiment.split, experiment.dataset.texts), strict=True))
    with open_answers(config.describe.cache) as cache:
        for kind, count in zip(KINDS, (log.num_items, log.num_users), strict=True):
            if kind == "users" and experiment.dataset.texts.of_users is not None:
                continue
            prompt_of = prompts[kind]
            keys = keys_of(count, prompt_of, model.described_by(config))
            rows = cache.unanswered(keys)
            blocks = [rows[start : start + PROMPTS] for start in range(0, len(rows), PROMPTS)]
            tasks = [{"prompts": [prompt_of(int(row)) for row in own], "keys": keys[own].ravel().tolist()} for own in blocks]
            with tqdm(total=len(rows), desc=f"describe {kind}", unit="text", disable=None) as bar:
                for done in on_cluster(Describer, tasks):
                    answers = json.loads(done["answers"])
                    for key, *answer in answers:
                        cache.add(bytes.fromhex(key), Answer(*answer))
                    bar.update(len(answers))


def encode_all(experiment: Experiment, on_cluster: Callable[..., Iterator[dict[str, Any]]]) -> None:
    """Fills the shards that are missing."""
    config, split, sources = experiment.knowledge, experiment.split, experiment.dataset.texts
    work = begin(config, split, sources, bank_recipe(config, split, sources), experiment.bank_folder)
    missing = {kind: missing_shards(work.shards, kind, work.wanted(kind)) for kind in KINDS}
    tasks: list[dict[str, Any]] = [
        {"kind": kind, "number": number, "texts": [work.texts[kind][row] for row in rows]}
        for kind in KINDS
        for number, rows in missing[kind].items()
    ]
    work.shards.mkdir(exist_ok=True)
    with tqdm(total=sum(len(task["texts"]) for task in tasks), desc="encode", unit="text", disable=None) as bar:
        for done in on_cluster(Encoder, tasks):
            kind, number = str(done["kind"]), int(done["number"])
            save_shard(shard_path(work.shards, kind, number), missing[kind][number], np.asarray(done["vectors"]), None)
            bar.update(len(missing[kind][number]))


def shared_out(config: ml_collections.ConfigDict, workers: int) -> dict[str, Any]:
    """A worker's config: its part of the bounds."""
    own = config.copy_and_resolve_references()
    for section in (own.describe, own.embed):
        section.concurrency = max(1, section.concurrency // workers)
        for name in ("requests_per_minute", "tokens_per_minute"):
            section[name] = section[name] and max(1, section[name] // workers)
    return own.to_dict()


def on_ray(config: dict[str, Any], workers: int, gpus: float, worker: type, tasks: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """What the workers make of the tasks, in any order.

    Raises:
      UserError: what a worker raises.
    """
    import ray

    if not tasks:
        return
    pool = min(workers, len(tasks))
    data = ray.data.from_items(list(tasks), override_num_blocks=len(tasks))
    try:
        yield from data.map(worker, fn_constructor_args=(config,), concurrency=pool, num_gpus=gpus or None).iter_rows()
    except ray.exceptions.RayTaskError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, UserError):
            cause = getattr(cause, "cause", None) or cause.__cause__
        raise cause or error from None


def main(arguments: Sequence[str]) -> None:
    """Describes and encodes on the cluster, then does what `--mode=prepare` does with what is left."""
    command_line.refuse_left_over(arguments)
    experiment = command_line.asked_for()
    config = experiment.knowledge
    if config.encoder not in PER_TEXT:
        raise UserError(
            f"config.knowledge.encoder: {config.encoder!r} looks at all texts at once or at files; prepare with --mode=prepare, "
            f"or use one of {', '.join(PER_TEXT)}"
        )
    try:
        import ray
    except ImportError as error:
        raise UserError("launch/ray_prepare.py needs Ray: pip install 'grasp-jax[ray]'") from error
    if not (pathlib.Path(experiment.bank_folder) / "manifest.json").is_file():
        ray.init(address=FLAGS.address or None, num_cpus=None if FLAGS.address else FLAGS.workers + 1, log_to_driver=False)
        ray.data.DataContext.get_current().enable_progress_bars = False
        run = functools.partial(on_ray, shared_out(config, FLAGS.workers), FLAGS.workers, GPUS.value or 0.0)
        if config.describer in LANGUAGE_MODELS:
            describe_all(experiment, run)
        encode_all(experiment, run)
        ray.shutdown()
    command_line.STAGES["prepare"](experiment, FLAGS)


if __name__ == "__main__":
    command_line.run(main)
