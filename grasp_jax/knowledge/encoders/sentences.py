"""Text vectors of a sentence-transformers model: a local folder or a name on a model hub, on the GPU where there is one."""

import contextlib
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np

from grasp_jax.config import KnowledgeConfig, SentenceConfig
from grasp_jax.core.errors import UserError
from grasp_jax.core.log import logger
from grasp_jax.core.words import one_line
from grasp_jax.knowledge.describe.model_folder import check_sentence_folder, fingerprint
from grasp_jax.knowledge.encoders.base import TextEncoder
from grasp_jax.knowledge.encoders.state import read_state, write_state


class SentenceEncoder(TextEncoder):
    """Vectors of a model; the settings are those of `config.sentence`.

    Args:
      settings: the section.
      content: the fingerprint of the model's folder that a bank was made with; another one is refused.
    """

    per_text = True

    def __init__(self, settings: SentenceConfig, content: str = "") -> None:
        self.settings = settings
        self._content = content
        self._model: Any = None
        self._truncated = [0, 0]  # texts that were cut, and all

    @classmethod
    def from_config(cls, config: KnowledgeConfig) -> Self:
        """With `config.sentence`."""
        return cls(config.sentence)

    def recipe(self) -> dict[str, object]:
        """The model and its settings; a model folder is identified by its content, not by its path."""
        settings = self.settings
        settings_of_model = {
            "prefix": settings.prefix,
            "pooling": settings.pooling,
            "max_tokens": settings.max_tokens,
        }
        return {
            "sentence": {"model": _content(settings.model) or settings.model, **settings_of_model}
        }

    @contextlib.contextmanager
    def session(self, texts: Mapping[str, Sequence[str]]) -> Iterator[None]:
        """Loads the model first, and says at the end how many texts were cut at its length.

        Raises:
          UserError: the package or the model is not there.
        """
        self._truncated = [0, 0]
        model = self._loaded()
        yield
        cut, count = self._truncated
        if cut:
            limit = model.max_seq_length
            logger.info(
                f"encode: {cut:,} of {count:,} texts are longer than the {limit} tokens that the model reads; cut"
            )

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """[n, E] float32.

        Raises:
          UserError: the package or the model is not there.
        """
        model = self._loaded()
        prefixed = [self.settings.prefix + text for text in texts]
        self._truncated = [
            self._truncated[0] + count_truncated(model, prefixed),
            self._truncated[1] + len(texts),
        ]
        # A copy is encoded once: faster, and equal to the last bit whatever its batch.
        different = list(dict.fromkeys(prefixed))
        options = {
            "batch_size": self.settings.batch_size,
            "show_progress_bar": False,
            "convert_to_numpy": True,
        }
        vectors = model.encode(different, **options)
        row_of = {text: row for row, text in enumerate(different)}
        return np.asarray(vectors, np.float32)[[row_of[text] for text in prefixed]]

    def save(self, folder: pathlib.Path) -> None:
        """The settings, and the fingerprint of a model's folder; the model itself stays where it is."""
        content = self._content or _content(self.settings.model)
        write_state(
            folder,
            "sentence_transformers",
            {"sentence": self.settings.to_dict(), "content": content},
        )

    @classmethod
    def load(cls, folder: pathlib.Path) -> Self:
        """As `TextEncoder.load`; the model is loaded when it is first needed."""
        settings = read_state(folder, "sentence_transformers").settings
        return cls(SentenceConfig.from_dict(settings["sentence"]), settings["content"])

    def _loaded(self) -> Any:
        """The model, once."""
        if self._model is None:
            self._check_content()
            self._model = load_model(self.settings)
        return self._model

    def _check_content(self) -> None:
        """Raises UserError if the model folder of a saved encoder is missing or contains another model now."""
        found = _content(self.settings.model)
        if self._content and found != self._content:
            fault = (
                "holds another model than the knowledge bank was made with"
                if found
                else "is not a folder any more"
            )
            raise UserError(
                f"{self.settings.model}: {fault}; put that model back there, or prepare the bank again"
            )


def _content(model: str) -> str:
    """The fingerprint of a model's folder; empty for a model of the hub, which is identified by its name."""
    folder = pathlib.Path(model).expanduser()
    return fingerprint(folder) if model and folder.is_dir() else ""


def load_model(config: SentenceConfig) -> Any:
    """The model; `config.max_tokens` shortens what it reads, `config.pooling` changes what is made of its tokens.

    Raises:
      UserError: no model is named, the packages are missing, the model cannot be loaded, or its pooling cannot be replaced.
    """
    if not config.model:
        raise UserError(
            "config.knowledge.sentence.model is empty; give a model folder, or a name such as BAAI/bge-base-en-v1.5"
        )
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
        safe: dict[str, Any] = {
            "trust_remote_code": False,
            "model_kwargs": {"use_safetensors": True},
        }
        model = SentenceTransformer(
            str(folder) if folder.is_dir() else config.model, device=config.device or None, **safe
        )
    except Exception as error:  # the hub's and the file system's errors are of a dozen kinds
        reason = one_line(error)
        raise UserError(
            f"config.knowledge.sentence.model: {config.model!r} is not a model folder and cannot be downloaded ({reason}); "
            "give a folder, or the name of a model on the Hugging Face hub"
        ) from error
    if config.max_tokens:
        model.max_seq_length = config.max_tokens
    if config.pooling != "model":
        _pool(model, config.pooling)
    return model


def _pool(model: Any, mode: str) -> None:
    """Replaces the pooling with which the model was trained."""
    from sentence_transformers.models import Pooling

    places = [name for name, module in model.named_children() if isinstance(module, Pooling)]
    if not places:
        raise UserError(
            f"config.knowledge.sentence.pooling: {mode!r}; expected 'model', because this model has its own kind of pooling"
        )
    for name in places:
        model._modules[name] = Pooling(model._modules[name].embedding_dimension, mode)


def count_truncated(model: Any, texts: Sequence[str], block: int = 1024) -> int:
    """How many texts have more tokens than the model reads."""
    limit, tokenizer = model.max_seq_length, model.tokenizer
    if not limit:
        return 0
    blocks = (list(texts[start : start + block]) for start in range(0, len(texts), block))
    return sum(
        len(ids) > limit
        for part in blocks
        for ids in tokenizer(part, truncation=False, verbose=False)["input_ids"]
    )
