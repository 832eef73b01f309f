"""Text vectors of a sentence-transformers model: a local folder or a name on a model hub, on the GPU where there is one."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from grasp_jax.config_dict import ConfigDict
from grasp_jax.errors import UserError
from grasp_jax.knowledge.model_folder import check_sentence_folder


@contextlib.contextmanager
def sentence_encoder(
    item_texts: Sequence[str], user_texts: Sequence[str], config: ConfigDict
) -> Iterator[Callable[[Sequence[str]], np.ndarray]]:
    """Vectors [n, E] float32 of a model; the settings are `config.sentence`. Says at the end how many texts were cut at its length.

    Raises:
      UserError: the package or the model is not there.
    """
    model, cut = load_model(config.sentence), [0, 0]

    def encode(texts: Sequence[str]) -> np.ndarray:
        prefixed = [config.sentence.prefix + text for text in texts]
        cut[0] += count_cut(model, prefixed)
        cut[1] += len(texts)
        different = list(dict.fromkeys(prefixed))  # a copy is encoded once: faster, and equal to the last bit whatever its batch
        vectors = model.encode(different, batch_size=config.sentence.batch_size, show_progress_bar=False, convert_to_numpy=True)
        row_of = {text: row for row, text in enumerate(different)}
        return np.asarray(vectors, np.float32)[[row_of[text] for text in prefixed]]

    yield encode
    if cut[0]:
        print(f"encode: {cut[0]:,} of {cut[1]:,} texts are longer than the {model.max_seq_length} tokens that the model reads; cut")


def load_model(config: ConfigDict) -> Any:
    """The model; `config.max_tokens` shortens what it reads, `config.pooling` changes what is made of its tokens."""
    if not config.model:
        raise UserError("config.knowledge.sentence.model is empty; give a model folder, or a name such as BAAI/bge-base-en-v1.5")
    folder = pathlib.Path(config.model).expanduser()
    if folder.is_dir():
        check_sentence_folder(folder, "config.knowledge.sentence.model")
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise UserError(
            "config.knowledge.encoder: 'sentence_transformers' needs the package of that name: pip install 'grasp-jax[text]' "
            f"({error.name} is missing)"
        ) from error
    try:
        # Of a hub's model, too, no weights but safetensors; for those of small modules the package itself refuses pickled code.
        safe: dict[str, Any] = {"trust_remote_code": False, "model_kwargs": {"use_safetensors": True}}
        model = SentenceTransformer(str(folder) if folder.is_dir() else config.model, device=config.device or None, **safe)
    except Exception as error:  # the hub's and the file system's errors are of a dozen kinds
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"config.knowledge.sentence.model: {config.model!r} is neither a model folder nor to be had: {reason}") from error
    if config.max_tokens:
        model.max_seq_length = config.max_tokens
    if config.pooling != "model":
        _pool(model, config.pooling)
    return model


def _pool(model: Any, mode: str) -> None:
    """Makes one vector of a text's tokens otherwise than the model was trained for."""
    from sentence_transformers.models import Pooling

    places = [name for name, module in model.named_children() if isinstance(module, Pooling)]
    if not places:
        raise UserError(f"config.knowledge.sentence.pooling: {mode!r}, but this model pools in a way of its own; use 'model'")
    for name in places:
        model._modules[name] = Pooling(model._modules[name].embedding_dimension, mode)


def count_cut(model: Any, texts: Sequence[str], block: int = 1024) -> int:
    """How many texts have more tokens than the model reads."""
    limit, tokenizer = model.max_seq_length, model.tokenizer
    if not limit:
        return 0
    blocks = (list(texts[start : start + block]) for start in range(0, len(texts), block))
    return sum(len(ids) > limit for part in blocks for ids in tokenizer(part, truncation=False, verbose=False)["input_ids"])
