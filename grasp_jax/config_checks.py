"""Values of a config that no stage could use, refused by name before anything is read or written.

Every field has the type of its default. A number lies within `BOUNDS`, whose upper ends are far beyond what anybody trains, yet within what
32-bit counters and this program's arithmetic take; whether a run fits the machine is for `grasp_jax.sizes` to say, once the data are known.
"""

import functools
import itertools
import math
import re
from typing import Any, NamedTuple

from grasp_jax.config import TUPLES, default_config, field_of, flatten, names, of_method
from grasp_jax.config_dict import ConfigDict
from grasp_jax.errors import UserError
from grasp_jax.knowledge.address import check_endpoint
from grasp_jax.knowledge.corruption import KINDS
from grasp_jax.knowledge.geometry import REDUCTIONS
from grasp_jax.knowledge.queries import BY_INTERACTION, QUERIES
from grasp_jax.parallel.plan import DEVICES


class Bounds(NamedTuple):
    """low <= value <= high; `what` says it where the numbers do not: "a share from 0 to below 1"."""

    low: float
    high: float
    what: str = ""

    def said(self, value: Any) -> str:
        """What was expected in place of a value."""
        if self.what:
            return self.what
        if isinstance(value, (int, float)) and value > self.high:
            return f"at most {self.high:,.15g}"
        return "a positive number" if self.low > 0 else "a number from 0"


TINY = 1e-30  # above 0, as a float32 has it
INT32 = 2**31 - 1
SEED = 2**32 - 1  # jax.random.key and NumPy agree up to there
MOST_MEMBERS = 1024  # models trained together: seeds x dropouts x learning rates
LONGEST_TEXT = 4096  # characters of a value: paths end there on Linux
COUNT, COUNT_OR_NONE = Bounds(1, INT32), Bounds(0, INT32)
SIZE, LAYERS, SECONDS = Bounds(1, 65_536), Bounds(1, 256), Bounds(1e-3, 1e7)
WEIGHT, PRICE, HARDWARE = Bounds(0, 1e6), Bounds(0, 1e6), Bounds(0, 1e9)
SHARE = Bounds(0, 1, "a share from 0 to 1")
BELOW_ONE = Bounds(0, math.nextafter(1, 0), "a share from 0 to below 1")
REQUESTS = Bounds(1, 10_000)

BOUNDS: dict[str, Bounds] = {
    "mesh.data": SIZE, "mesh.table": SIZE,
    "data.min_rating": Bounds(0, 1e9), "data.max_length": SIZE, "data.max_missing_text": SHARE,
    "data.tail_user_below": COUNT_OR_NONE, "data.tail_item_below": COUNT_OR_NONE,
    "data.synthetic.num_users": Bounds(2, 10**8), "data.synthetic.num_items": Bounds(100, 10**8),
    "data.synthetic.mean_length": Bounds(math.nextafter(3, 4), 50, "a mean above 3, at most 50"), "data.synthetic.repeat_rate": BELOW_ONE,
    "data.synthetic.corrupted_share": SHARE, "data.synthetic.seed": Bounds(0, SEED), "data.synthetic.bytes_per_row": COUNT_OR_NONE,
    "data.synthetic.cpu_items": COUNT,
    "data.amazon.min_user_interactions": COUNT_OR_NONE, "data.amazon.min_item_interactions": COUNT_OR_NONE,
    "knowledge.describe.temperature": Bounds(0, 100), "knowledge.describe.max_tokens": Bounds(1, 10**6),
    "knowledge.describe.max_characters": Bounds(1, 10**8), "knowledge.describe.concurrency": REQUESTS,
    "knowledge.describe.timeout": SECONDS, "knowledge.describe.retries": Bounds(0, 1000),
    "knowledge.describe.requests_per_minute": COUNT_OR_NONE, "knowledge.describe.tokens_per_minute": COUNT_OR_NONE,
    "knowledge.describe.price_prompt": PRICE, "knowledge.describe.price_answer": PRICE,
    "knowledge.local.batch_size": SIZE, "knowledge.sentence.batch_size": SIZE, "knowledge.sentence.max_tokens": Bounds(0, 10**6),
    "knowledge.embed.dimensions": Bounds(0, 65_536), "knowledge.embed.batch_texts": SIZE, "knowledge.embed.batch_tokens": Bounds(1, 10**8),
    "knowledge.embed.concurrency": REQUESTS, "knowledge.embed.timeout": SECONDS, "knowledge.embed.retries": Bounds(0, 1000),
    "knowledge.embed.requests_per_minute": COUNT_OR_NONE, "knowledge.embed.tokens_per_minute": COUNT_OR_NONE,
    "knowledge.embed.price_prompt": PRICE, "knowledge.embed.price_answer": PRICE,
    "knowledge.width": SIZE, "knowledge.seed": Bounds(0, SEED), "knowledge.num_neighbours": SIZE, "knowledge.min_recall": SHARE,
    "knowledge.recall_sample": COUNT, "knowledge.reduction.width": Bounds(0, 65_536),
    "knowledge.audit.texts": COUNT, "knowledge.audit.pairs": Bounds(1, 10**8), "knowledge.audit.sheet_rows": Bounds(1, 10**6),
    "knowledge.audit.duplicate_cosine": Bounds(TINY, 1, "a cosine, at most 1"), "knowledge.audit.seed": Bounds(0, SEED),
    "knowledge.corruption.share": SHARE, "knowledge.corruption.seed": Bounds(0, SEED),
    "model.features": SIZE, "model.gate_scale": Bounds(TINY, 1e6), "model.gate_dropout": BELOW_ONE, "model.row_norm": Bounds(TINY, 1e6),
    "model.num_layers": LAYERS, "model.gru_layers": LAYERS, "model.num_heads": SIZE, "model.padded_length": Bounds(0, 65_536),
    "model.mask_rate": Bounds(1e-6, 1, "a share above 0, at most 1"),
    "model.mask_noise": Bounds(0, 0.5, "a share from 0 to 0.5, for it is taken twice"),
    "model.llm_esr.similar_users": SIZE, "model.llm_esr.alpha": WEIGHT, "model.plus.row_norm": Bounds(TINY, 1e6),
    "model.plus.id_trust": Bounds(0, 1e9), "model.plus.id_dropout": BELOW_ONE,
    "model.rlmrec.con_weight": WEIGHT, "model.rlmrec.gen_weight": WEIGHT, "model.rlmrec.temperature": Bounds(1e-6, 1e6),
    "train.batch_size": Bounds(1, 2**20), "train.negatives": Bounds(1, 2**20), "train.shared_negatives": Bounds(1, 2**24),
    "train.label_smoothing": BELOW_ONE, "train.gbce_calibration": Bounds(0, 1, "a number from 0 to 1"),
    "train.max_epochs": Bounds(0, 10**6), "train.patience": Bounds(1, 10**6), "train.steps_per_dispatch": Bounds(1, 2**16),
    "train.checkpoint_seconds": Bounds(0, 1e9),
    "eval.seed": Bounds(0, SEED), "eval.num_negatives": Bounds(1, 2**24),
    "eval.valid_users": COUNT_OR_NONE, "eval.full_users": COUNT_OR_NONE,
    "eval.user_block": Bounds(1, 2**20), "eval.item_block": COUNT, "recommend.top_n": Bounds(1, 2**24),
    "plan.memory_gb": HARDWARE, "plan.bandwidth_gb": HARDWARE, "plan.tflops": HARDWARE, "plan.link_gb": HARDWARE,
    "plan.network_gb": HARDWARE, "plan.host_gb": HARDWARE, "plan.per_host": Bounds(0, 65_536),
}  # fmt: skip

CHOICES = {
    "kernels": ("auto", "xla", "pallas"),
    "plan.device": tuple(DEVICES),
    "tables.users": ("device", "sharded", "host"),
    "data.source": ("files", "synthetic", "amazon", "auto"),
    "knowledge.describer": ("template", "openai", "transformers"),
    "knowledge.encoder": ("lsa", "tfidf_projection", "sentence_transformers", "openai", "file"),
    "knowledge.sentence.pooling": ("model", "mean", "cls", "max", "lasttoken"),
    "knowledge.local.dtype": ("auto", "float32", "bfloat16", "float16"),
    "knowledge.dtype": ("float32", "float16", "bfloat16"),
    "knowledge.reduction.kind": REDUCTIONS,
    "knowledge.pooling": ("mean", "similarity"),
    "model.block": ("sasrec", "prenorm"),
    "knowledge.retrieval": ("exact", "scann"),
    "model.gate": ("paper", "learned", "none", "softmax"),
    "knowledge.corruption.kind": KINDS,
    "model.gate_query": QUERIES,
    "model.plus.gate": ("paper", "learned", "none", "softmax"),
    "train.targets": ("every", "last"),
    "train.loss": ("auto", "bce", "softmax", "gbce"),
    "model.dtype": ("float32", "bfloat16"),
    "model.table_dtype": ("float32", "float16", "bfloat16"),
    "model.projection": ("auto", "token", "table"),
}
NOT_EMPTY = (
    "data.name", "data.columns.user", "data.columns.item", "data.items_id_column", "data.users_id_column", "data.title_column",
    "data.amazon.category", "knowledge.describe.model", "knowledge.describe.key_variable", "knowledge.embed.model",
    "knowledge.embed.key_variable", "knowledge.item_template", "knowledge.user_template",
)  # fmt: skip
FREE_TEXT = ("knowledge.sentence.prefix",)  # may hold line feeds
_INTS = ("train.seeds", "model.mlp", "knowledge.audit.history_groups")
_EXAMPLES = {
    "train.seeds": "(42,43,44)", "train.learning_rate": "(1e-3,3e-3)", "model.mlp": "(256,)", "model.dropout": "(0.2,0.5)",
    "knowledge.audit.history_groups": "(3,5,10,20)",
}  # fmt: skip
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check_config(config: ConfigDict, methods: tuple[str, ...], backbones: tuple[str, ...]) -> None:
    """`validate`, and the same of every method's own values in `config.by_method`.

    Raises:
      UserError: naming the field, of `by_method` where it stands there.
    """
    validate(config, methods, backbones)
    if not isinstance(config.by_method, ConfigDict):
        raise UserError(f"config.by_method: {shown(config.by_method)}; expected methods, such as {{'plain': {{'model': {{...}}}}}}")
    for method in config.by_method:
        if method not in methods:
            raise UserError(f"config.by_method.{method}: no such method; expected one of {', '.join(methods)}")
        merged = of_method(config, method)
        try:
            validate(merged, methods, backbones)
        except UserError as error:
            raise UserError(str(error).replace("config.", f"config.by_method.{method}.", 1)) from error


def validate(config: ConfigDict, methods: tuple[str, ...], backbones: tuple[str, ...]) -> None:
    """Raises UserError for a value that no stage could use; `methods` and `backbones` are the known names."""
    values = {key: value for key, value in flatten(config.to_dict()).items() if key.split(".")[0] not in ("by_method", "by_source")}
    defaults = _defaults()
    if lacking := sorted(defaults.keys() - values.keys()):
        raise UserError(f"config.{lacking[0]}: missing; expected a value such as the default's, {defaults[lacking[0]]!r}")
    for section in ("describe", "embed"):  # first, for what may be a key is shown by no other check
        check_endpoint(config.knowledge[section], f"config.knowledge.{section}")
    for key, value in values.items():
        if key not in defaults:
            raise UserError(f"config.{key}: no such field; grasp_jax/config.py lists every field")
        _check_value(key, value, defaults[key])
    _check_tuples(config)
    _check_names(config, methods, backbones)
    _check_together(config)


@functools.cache
def _defaults() -> dict[str, Any]:
    return flatten(default_config().to_dict())


def shown(value: Any) -> str:
    """A value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text):,} characters)"


def _check_value(key: str, value: Any, default: Any) -> None:
    if value is None:
        raise UserError(f"config.{key}: None; expected a value such as the default's, {default!r}")
    if isinstance(default, tuple):
        if not isinstance(value, tuple):
            raise UserError(f"config.{key}: {shown(value)}; expected a tuple, such as {_EXAMPLES.get(key) or default!r}")
        if key not in TUPLES:  # names of columns
            for part in value:
                _check_text(key, part)
    elif isinstance(default, bool):
        if not isinstance(value, bool):
            raise UserError(f"config.{key}: {shown(value)}; expected True or False")
    elif isinstance(default, str):
        _check_text(key, value)
        if key in CHOICES and value not in CHOICES[key]:
            raise UserError(f"config.{key}: {shown(value)}; expected one of {', '.join(CHOICES[key])}")
        if key in NOT_EMPTY and not value.strip():
            raise UserError(f"config.{key}: {value!r}; expected a name, such as the default's, {default!r}")
    else:
        _check_number(key, value, whole=isinstance(default, int))


def _check_number(key: str, value: Any, whole: bool) -> None:
    bounds = BOUNDS[key]
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise UserError(f"config.{key}: {shown(value)}; expected a {'whole number' if whole else 'number'}")
    if not bounds.low <= value <= bounds.high:
        raise UserError(f"config.{key}: {shown(value)}; expected {bounds.said(value)}")


def _check_text(key: str, value: Any) -> None:
    if not isinstance(value, str):
        raise UserError(f"config.{key}: {shown(value)}; expected text")
    if len(value) > LONGEST_TEXT:
        raise UserError(f"config.{key}: {shown(value)}; expected at most {LONGEST_TEXT:,} characters")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        mend = "expected UTF-8: set LC_ALL=C.UTF-8, or give it in a config file"
        raise UserError(f"config.{key}: {shown(value)} holds bytes that are no text in this terminal's spelling; {mend}") from None
    found = _CONTROL.search(value)
    if found and (key not in FREE_TEXT or found[0] == "\0"):
        raise UserError(f"config.{key}: {shown(value)} holds the control character {found[0]!r}; expected text without it")


def _check_tuples(config: ConfigDict) -> None:
    for key in TUPLES:
        value, kind = field_of(config, key), "int" if key in _INTS else "float"
        if any(isinstance(part, bool) or not isinstance(part, int if kind == "int" else (int, float)) for part in value):
            raise UserError(f"config.{key}: {shown(value)}; expected a tuple of {kind}s, such as {_EXAMPLES[key]}")
    widths, seeds, rates, dropouts = config.model.mlp, config.train.seeds, config.train.learning_rate, config.model.dropout
    if not all(1 <= width <= SIZE.high for width in widths) or len(widths) > LAYERS.high:
        raise UserError(
            f"config.model.mlp: {shown(widths)}; expected widths of hidden layers from 1 to {SIZE.high:,.15g}, or () for none, at most "
            f"{LAYERS.high} of them"
        )
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0 or max(seeds) > SEED:
        raise UserError(f"config.train.seeds: {shown(seeds)}; expected one or more different whole numbers from 0 to {SEED}")
    if not rates or len(set(rates)) != len(rates) or not all(0 < rate < math.inf for rate in rates) or max(rates) > 3e38:
        raise UserError(f"config.train.learning_rate: {shown(rates)}; expected one or more different positive numbers that a float32 holds")
    if not dropouts or not all(0 <= rate < 1 for rate in dropouts):
        raise UserError(f"config.model.dropout: {shown(dropouts)}; expected rates from 0 to below 1")
    if (members := len(seeds) * len(rates) * len(dropouts)) > MOST_MEMBERS:
        raise UserError(
            f"config.train.seeds: {len(seeds)} x {len(dropouts)} dropouts x {len(rates)} learning rates are {members:,} models; "
            f"expected at most {MOST_MEMBERS:,} that are trained together: lower their number"
        )
    starts = config.knowledge.audit.history_groups
    if not starts or starts[0] < 1 or starts[-1] > INT32 or any(low >= high for low, high in itertools.pairwise(starts)):
        raise UserError(f"config.knowledge.audit.history_groups: {shown(starts)}; expected one or more lengths from 1, each above the last")


def _check_names(config: ConfigDict, methods: tuple[str, ...], backbones: tuple[str, ...]) -> None:
    for key, known in (("method", methods), ("backbone", backbones)):
        given = names(config.model[key])
        for name in given:
            if name not in known:
                raise UserError(f"config.model.{key}: {shown(name)}; expected one or several, comma separated, of {', '.join(known)}")
        if len(set(given)) != len(given):
            raise UserError(f"config.model.{key}: {config.model[key]!r} names one of them twice; expected different names")


def _check_together(config: ConfigDict) -> None:
    """Values that are right each, and not beside each other."""
    least = 0 if config.train.start_from else 1
    if config.train.max_epochs < least:
        raise UserError(f"config.train.max_epochs: {config.train.max_epochs!r}; expected a positive number; 0 wants train.start_from")
    if (config.knowledge.reduction.kind == "none") != (config.knowledge.reduction.width == 0):
        raise UserError(
            f"config.knowledge.reduction.width: {config.knowledge.reduction.width!r} with kind {config.knowledge.reduction.kind!r}; "
            "expected a width for truncate and pca, and 0 for none"
        )
    if config.model.features % config.model.num_heads:
        raise UserError(f"config.model.num_heads: {config.model.num_heads}; expected a divisor of model.features={config.model.features}")
    if config.kernels == "pallas" and config.mesh.data * config.mesh.table > 1:
        mesh = f"{config.mesh.data} x {config.mesh.table}"
        raise UserError(f"config.kernels: 'pallas' with a mesh of {mesh} devices; no kernel is cut into parts: expected xla")
    if config.kernels == "pallas" and config.model.padded_length and set(names(config.model.backbone)) - {"gru4rec"}:
        raise UserError(
            f"config.kernels: 'pallas' with model.padded_length={config.model.padded_length}; attention over padding has no kernel: "
            "expected xla"
        )
    if config.tables.users == "host" and (apart := [of for of in names(config.model.method) if of.startswith("rlmrec")]):
        raise UserError(f"config.tables.users: 'host' with {apart[0]}, which trains on users' texts; expected 'device' or 'sharded'")
    if config.tables.users != "device" and config.model.gate_query in BY_INTERACTION:
        raise UserError(
            f"config.tables.users: {config.tables.users!r} with model.gate_query={config.model.gate_query!r}, which has a row for every "
            "interaction; expected 'device'"
        )
    if "llm_esr" in names(config.model.method) and config.model.features % 2:
        raise UserError(f"config.model.features: {config.model.features}; llm_esr's cross-attention has two heads and needs an even number")
