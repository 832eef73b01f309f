"""`--mode=prepare` with descriptions and encoding on a Ray cluster; it uses the same functions and makes the same bank.

    pip install -e '.[ray,text]'
    python launch/ray_prepare.py --config=... --workdir=... [--address=ray://HEAD:10001] [--workers=8] [--gpus-per-worker=1]

Without an address Ray is started on this machine. Results of a worker are stored at once, answers in the cache and vectors as shards next
to the bank. So this program or a worker may be killed at any point: the next run computes only what is missing. Keys are read from the
environment of the workers' machines. Limits on requests in flight and per minute are divided among the workers.
"""

import contextlib
import functools
import json
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import flags

from grasp_jax import command as command_line
from grasp_jax import main as entry
from grasp_jax.config import KnowledgeConfig, value_of
from grasp_jax.config.address import resolved
from grasp_jax.core.errors import UserError
from grasp_jax.core.progress import progress_bar
from grasp_jax.knowledge.bank import MANIFEST, bank_lock
from grasp_jax.knowledge.describe import generate
from grasp_jax.knowledge.describe.describers import LANGUAGE_MODELS, to_send
from grasp_jax.knowledge.describe.local_model import LocalModel
from grasp_jax.knowledge.encoders import embeddings, encoder_class, make_encoder, per_text_encoders
from grasp_jax.knowledge.encoders.base import TextEncoder
from grasp_jax.knowledge.endpoint.cache import StoredAnswer, open_answers
from grasp_jax.knowledge.recipe import bank_recipe
from grasp_jax.knowledge.shards import missing_shards, save_shard, shard_path
from grasp_jax.knowledge.texts import prompts_of
from grasp_jax.knowledge.unfinished_bank import KINDS, begin
from grasp_jax.modes import Options, run_mode
from grasp_jax.parallel.ray_cluster import stop_if_failed
from grasp_jax.ray_command import define_flags, on_cluster, started_cluster, take_mode
from grasp_jax.trials.run import Run

PROMPTS = 256  # of a task; a worker that dies loses at most this number of answers

define_flags(workers="Processes that describe and encode.")
FLAGS = flags.FLAGS


class Collected:
    """Collects answers, with the interface of a cache, so that a worker can return them."""

    def __init__(self) -> None:
        self.answers: list[list[Any]] = []

    def add(self, key: bytes, answer: StoredAnswer) -> None:
        """One answer."""
        self.answers.append([key.hex(), *answer])


class Describer:
    """A worker that sends prompts to the language model: {"prompts": [n], "keys": [2 n]} -> {"answers": JSON, "error"}."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = KnowledgeConfig.from_dict(config)
        self._ask: Callable[..., Any] | None = None

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        collected, prompts = Collected(), list(task["prompts"])
        keys = np.asarray(task["keys"], np.uint64).reshape(-1, 2)
        try:
            self._ask = self._ask or asking(self.config)
            self._ask(
                np.arange(len(prompts)),
                keys,
                lambda row: str(prompts[row]),
                collected,
                self.config,
                "describe",
            )
        except UserError as error:
            # returned as a value, because Ray does not keep an exception's class
            return {"answers": json.dumps(collected.answers), "error": str(error)}
        return {"answers": json.dumps(collected.answers), "error": ""}


def asking(config: KnowledgeConfig) -> Callable[..., Any]:
    """The function that sends prompts to the config's language model; a local model is loaded once for all tasks of a worker."""
    if config.describer != "transformers":
        return LANGUAGE_MODELS[config.describer].request_answers
    model = LocalModel(config)
    return functools.partial(generate.request_answers, load=lambda _: contextlib.nullcontext(model))


class Encoder:
    """A worker with an encoder: {"kind", "number", "texts": [n]} -> {"kind", "number", "vectors": [n, E] float32, "error"}."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = KnowledgeConfig.from_dict(config)
        self._encoder: TextEncoder | None = None

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        vectors, said = np.empty((0, 0), np.float32), ""
        try:
            if self._encoder is None:
                # Only one process may use a cache, so the main program stores the returned vectors.
                self._folder = tempfile.TemporaryDirectory(prefix="vectors-")
                self.config = self.config.with_fields({"embed.cache": self._folder.name})
                self._encoder = make_encoder(self.config)
                self._session = self._encoder.session({})
                self._session.__enter__()
            vectors = self._encoder.encode([str(text) for text in task["texts"]])
        except UserError as error:
            said = str(error)
        return {"kind": task["kind"], "number": task["number"], "vectors": vectors, "error": said}


def describe_all(run: Run, workers_config: dict[str, Any]) -> None:
    """Requests the answers that the cache lacks, and stores them there; `workers_config` is that of `shared_out`."""
    config, log = run.knowledge, run.split.log
    prompts = dict(zip(KINDS, prompts_of(config, run.split, run.dataset.texts), strict=True))
    with open_answers(config.describe.cache) as cache:
        for kind, count in zip(KINDS, (log.num_items, log.num_users), strict=True):
            if kind == "users" and run.dataset.texts.of_users is not None:
                continue
            prompt_of = prompts[kind]
            keys, rows = to_send(kind, count, prompt_of, config, cache)
            blocks = [rows[start : start + PROMPTS] for start in range(0, len(rows), PROMPTS)]
            tasks = [
                {
                    "prompts": [prompt_of(int(row)) for row in own],
                    "keys": keys[own].ravel().tolist(),
                }
                for own in blocks
            ]
            with progress_bar(len(rows), f"describe {kind}", "text") as bar:
                for done in on_cluster(workers_config, Describer, tasks):
                    answers = json.loads(done["answers"])
                    for key, *answer in answers:
                        cache.add(bytes.fromhex(key), StoredAnswer(*answer))
                    bar.update(len(answers))
                    stop_if_failed(done)


def encode_all(run: Run, workers_config: dict[str, Any]) -> None:
    """Writes the missing shards. An endpoint's vectors are stored in its cache, and texts in the cache are not encoded again."""
    config, split, sources = run.knowledge, run.split, run.dataset.texts
    work = begin(config, split, sources, bank_recipe(config, split, sources), run.bank_folder)
    work.shards.mkdir(exist_ok=True)
    missing = {
        (kind, number): rows
        for kind in KINDS
        for number, rows in missing_shards(work.shards, kind, work.wanted(kind)).items()
    }
    texts = {shard: [work.texts[shard[0]][row] for row in rows] for shard, rows in missing.items()}
    with contextlib.ExitStack() as stack:
        cache = (
            stack.enter_context(open_answers(config.embed.cache))
            if config.encoder == "openai"
            else None
        )
        # a shard whose vectors are all in the cache is written by this machine, without a request
        if cache is not None:
            wanted = [text for own in texts.values() for text in own]
            embeddings.to_send(wanted, cache, config.embed, "encode")
            texts = {
                shard: own
                for shard, own in texts.items()
                if cache.missing(embeddings.keys_of(own, config.embed)).any()
            }
        bar = stack.enter_context(progress_bar(sum(map(len, texts.values())), "encode", "text"))
        tasks = [
            {"kind": kind, "number": number, "texts": own} for (kind, number), own in texts.items()
        ]
        for done in on_cluster(workers_config, Encoder, tasks):
            stop_if_failed(done)
            shard = str(done["kind"]), int(done["number"])
            vectors = np.asarray(done["vectors"])
            if cache is not None:
                for key, vector in zip(
                    embeddings.keys_of(texts[shard], config.embed), vectors, strict=True
                ):
                    cache.add(key.tobytes(), embeddings.as_answer(vector))
            save_shard(shard_path(work.shards, *shard), missing[shard], vectors)
            bar.update(len(vectors))


def shared_out(config: KnowledgeConfig, workers: int) -> dict[str, Any]:
    """A worker's config, with its share of the limits on requests, and the addresses by which this program keeps what comes back."""
    shares: dict[str, Any] = {}
    for section, user in (("describe", config.describer), ("embed", config.encoder)):
        if user == "openai":  # a worker's machine may have another address in its environment
            shares[f"{section}.base_url"] = resolved(value_of(config, section)).url
        for name in ("concurrency", "requests_per_minute", "tokens_per_minute"):
            bound = value_of(config, f"{section}.{name}")
            shares[f"{section}.{name}"] = bound and max(1, bound // workers)  # 0 sets no limit
    return config.with_fields(shares).to_dict()


def main(arguments: Sequence[str]) -> None:
    """Describes and encodes on the cluster, then does the rest of `--mode=prepare` here."""
    take_mode("prepare", arguments)
    workdir, open_it = command_line.run_of_flags()
    run = open_it()
    config = run.knowledge
    if not encoder_class(config.encoder).per_text:
        raise UserError(
            f"config.knowledge.encoder: {config.encoder!r} looks at all texts at once or at files; prepare with --mode=prepare, "
            f"or use one of {', '.join(per_text_encoders())}"
        )
    least = min(config.describe.concurrency, config.embed.concurrency)
    if max(FLAGS.workers, 1) > least and "openai" in (config.describer, config.encoder):
        raise UserError(
            f"--workers: {FLAGS.workers}; expected at most the requests in flight that the config allows, {least}"
        )
    if run.needs_bank and not FLAGS["dry-run"].value and not (run.bank_folder / MANIFEST).is_file():
        with bank_lock(run.bank_folder), started_cluster():
            workers_config = shared_out(config, FLAGS.workers)
            if config.describer in LANGUAGE_MODELS:
                describe_all(run, workers_config)
            encode_all(run, workers_config)
    run_mode("prepare", lambda: run, workdir, Options(dry_run=bool(FLAGS["dry-run"].value)))


if __name__ == "__main__":
    entry.run(main)
