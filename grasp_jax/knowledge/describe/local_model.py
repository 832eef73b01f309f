"""A chat model in a folder on this machine, run by transformers: weights from safetensors alone, and none of the folder's own code."""

import contextlib
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from grasp_jax.config import DescribeConfig, KnowledgeConfig
from grasp_jax.core.errors import UserError
from grasp_jax.core.log import logger
from grasp_jax.core.words import one_line
from grasp_jax.knowledge.describe.language_model import SYSTEM
from grasp_jax.knowledge.describe.model_folder import FIELD, model_folder


class Generated(NamedTuple):
    """What the model wrote for one prompt; `cut`: it had not ended when it had written `describe.max_tokens`."""

    text: str
    prompt_tokens: int
    answer_tokens: int
    cut: bool = False


# prompts -> answers; None where a prompt is too long for the model
Generate = Callable[[Sequence[str]], list[Generated | None]]


@contextlib.contextmanager
def loaded(config: KnowledgeConfig) -> Iterator[Generate]:
    """The model of `config.local`; what it held on the GPU is let go at the end, for JAX's sake.

    Raises:
      UserError: as of `LocalModel`.
    """
    model = LocalModel(config)
    try:
        yield model
    finally:
        model.release()


class LocalModel:
    """A `Generate` of the folder in `config.local`, by the temperature and lengths in `config.describe`.

    Raises:
      UserError: the packages are missing, or the folder has no chat template or cannot be loaded.
    """

    def __init__(self, config: KnowledgeConfig) -> None:
        folder = model_folder(config.local.model)
        try:
            import torch
            import transformers
        except ImportError as error:
            needed = "config.knowledge.describer: 'transformers' needs the package of that name and torch"
            raise UserError(
                f"{needed}: pip install 'grasp-jax[text]' ({error.name} is missing)"
            ) from error
        self._torch, self._batch_size = torch, config.local.batch_size
        device = config.local.device or ("cuda" if torch.cuda.is_available() else "cpu")
        safe: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        with _loading(folder, "tokenizer"):
            self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
                folder, padding_side="left", **safe
            )
        if not self._tokenizer.chat_template:
            raise UserError(
                f"{FIELD}: {str(folder)!r} has no chat template; expected an instruction-tuned model, not a base model"
            )
        with _loading(folder, f"model on {device!r}"):
            dtype = config.local.dtype
            model: Any = transformers.AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, **safe
            )
            self._model = model.to(device).eval()
        self._settle(config.describe)
        torch.manual_seed(config.seed)
        self._written = _conversation(self._tokenizer)
        numbers = (
            f"{model.num_parameters():,} parameters, {str(model.dtype).removeprefix('torch.')}"
        )
        logger.info(f"{folder.name}: {numbers}, on {model.device}")

    def _settle(self, settings: DescribeConfig) -> None:
        """Generation as the config has it and not as the folder would: greedy, or by temperature alone."""
        from transformers import GenerationConfig

        # often more of them than the tokenizer knows
        ends = self._model.generation_config.eos_token_id
        ends = self._tokenizer.eos_token_id if ends is None else ends
        self._ends: list[int] = [ends] if isinstance(ends, int) else list(ends or ())
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token_id = self._ends[0] if self._ends else 0
        sampling = (
            {"temperature": settings.temperature, "top_k": 0, "top_p": 1.0}
            if settings.temperature
            else {}
        )
        self._model.generation_config = GenerationConfig(
            max_new_tokens=settings.max_tokens,
            do_sample=bool(sampling),
            eos_token_id=self._ends or None,
            pad_token_id=self._tokenizer.pad_token_id,
            **sampling,
        )
        longest = getattr(self._model.config, "max_position_embeddings", None) or 10**9
        self._most_tokens = longest - settings.max_tokens  # of a prompt

    def __call__(self, prompts: Sequence[str]) -> list[Generated | None]:
        """Answers of one batch; None for a prompt that leaves no room for an answer.

        Raises:
          UserError: the batch does not fit into the device's memory.
        """
        conversations = [self._written(prompt) for prompt in prompts]
        lengths = [
            len(ids)
            for ids in self._tokenizer(conversations, add_special_tokens=False)["input_ids"]
        ]
        fitting = [k for k, length in enumerate(lengths) if length <= self._most_tokens]
        answers: list[Generated | None] = [None] * len(prompts)
        if fitting:
            made = self._tokens([conversations[k] for k in fitting])
            for k, tokens in zip(fitting, made, strict=True):
                own = up_to_end(tokens, self._ends)
                text = self._tokenizer.decode(own, skip_special_tokens=True)
                # it goes on for the longest of the batch, so without an end it came to the limit
                answers[k] = Generated(text, lengths[k], len(own), len(own) == len(tokens))
        return answers

    def _tokens(self, conversations: list[str]) -> list[list[int]]:
        """What the model writes after each, and whatever stands behind the end of its turn."""
        torch = self._torch
        inputs = self._tokenizer(
            conversations, padding=True, add_special_tokens=False, return_tensors="pt"
        ).to(self._model.device)
        try:
            with torch.inference_mode():
                made = self._model.generate(**inputs)[:, inputs["input_ids"].shape[1] :]
        except torch.OutOfMemoryError:
            field, kept = (
                "config.knowledge.local.batch_size",
                "all answers so far are kept; run the same command again to continue",
            )
            raise UserError(
                f"{field}: {self._batch_size} prompts at a time do not fit into the GPU; expected fewer; {kept}"
            ) from None
        tokens: list[list[int]] = made.tolist()
        return tokens

    def release(self) -> None:
        """Lets the model go, and with it the GPU's memory."""
        del self._model
        if self._torch.cuda.is_available():
            self._torch.cuda.empty_cache()


def up_to_end(tokens: Sequence[int], ends: Sequence[int]) -> Sequence[int]:
    """Tokens before the first one that ends the turn; all of them if none does."""
    return tokens[: next((k for k, token in enumerate(tokens) if token in ends), len(tokens))]


@contextlib.contextmanager
def _loading(folder: pathlib.Path, what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # transformers, safetensors and torch raise a dozen kinds for a damaged folder or an unknown device
        reason = one_line(f"{type(error).__name__}: {error}")
        raise UserError(f"{FIELD}: {str(folder)!r}: cannot load the {what}: {reason}") from error


def _conversation(tokenizer: Any) -> Callable[[str], str]:
    """prompt -> the conversation as the model reads it. Control tokens that stand in a prompt are taken out: a title could end its turn."""
    control = {
        token.content for token in tokenizer.added_tokens_decoder.values() if token.special
    } | set(tokenizer.all_special_tokens)
    pattern = re.compile(
        "|".join(map(re.escape, sorted(control, key=len, reverse=True))) or r"(?!)"
    )

    def written(messages: list[dict[str, str]]) -> str:
        return str(
            tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        )

    def separate(prompt: str) -> list[dict[str, str]]:
        return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}]

    def joined(prompt: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": f"{SYSTEM}\n\n{prompt}"}]

    try:
        messages = separate if SYSTEM in written(separate("x")) else joined
    # a template raises its own type of error if it does not support the system role
    except Exception:
        messages = joined
    return lambda prompt: written(messages(pattern.sub(" ", prompt)))
