"""Sections of `knowledge`: models that write descriptions, and models that encode texts.

Names of the environment variables with keys stand here, keys never.
"""

import dataclasses
from typing import ClassVar

from grasp_jax.config.checks import (
    ADDRESS,
    COUNT_OR_NONE,
    NAME,
    PRICE,
    REQUESTS,
    RETRIES,
    SECONDS,
    SIZE,
    SIZE_OR_NONE,
    TEXT,
    VARIABLE,
    Choice,
    Real,
    Text,
    Whole,
)
from grasp_jax.config.fields import BANK, NOTHING, Section, field


@dataclasses.dataclass(frozen=True)
class EndpointConfig(Section):
    """What every OpenAI-compatible endpoint is asked by; base of its sections."""

    base_url: str = field(
        "",
        ADDRESS,
        "Address of an OpenAI-compatible server, http://localhost:8000/v1; empty for OpenAI "
        "itself.",
        NOTHING,
    )
    key_variable: str = field(
        "OPENAI_API_KEY", VARIABLE, "Name of the environment variable that holds the key.", NOTHING
    )
    requests_per_minute: int = field(
        0, COUNT_OR_NONE, "Requests a minute, at most; 0 sets no limit.", NOTHING
    )
    tokens_per_minute: int = field(
        0, COUNT_OR_NONE, "Tokens a minute, at most; 0 sets no limit.", NOTHING
    )
    timeout: float = field(60.0, SECONDS, "How long an answer is waited for, in seconds.", NOTHING)
    retries: int = field(8, RETRIES, "How often a failed request is sent again.", NOTHING)


@dataclasses.dataclass(frozen=True)
class DescribeConfig(EndpointConfig):
    """The describer `openai`; `transformers` reads what concerns answers, and the cache, too."""

    SECTION: ClassVar[str] = "knowledge.describe"
    model: str = field("gpt-4o-mini", NAME, "Name of the model at that address.", BANK)
    temperature: float = field(
        0.0, Real(0, 100), "Randomness of the answers; 0 takes the likeliest token.", BANK
    )
    max_tokens: int = field(300, Whole(1, 10**6), "Length of an answer, at most, in tokens.", BANK)
    max_characters: int = field(
        4000, Whole(1, 10**8), "Length from which an answer is cut, in characters.", BANK
    )
    concurrency: int = field(32, REQUESTS, "Requests in flight at once.", NOTHING)
    price_prompt: float = field(
        0.0, PRICE, "Price of a million tokens of prompts, for the estimate of cost.", NOTHING
    )
    price_answer: float = field(
        0.0, PRICE, "Price of a million tokens of answers, for the estimate of cost.", NOTHING
    )
    cache: str = field(
        "~/.cache/grasp_jax/answers",
        TEXT,
        "Folder that keeps answers across runs and data sets.",
        NOTHING,
    )


@dataclasses.dataclass(frozen=True)
class LocalConfig(Section):
    """The describer `transformers`, a model on this machine."""

    SECTION: ClassVar[str] = "knowledge.local"
    model: str = field(
        "", TEXT, "Folder of an instruction-tuned model, such as Qwen2.5-7B-Instruct.", BANK
    )
    device: str = field(
        "", TEXT, "Torch's name of the device; empty for the GPU, if there is one.", NOTHING
    )
    dtype: str = field(
        "auto",
        Choice("auto", "float32", "bfloat16", "float16"),
        "Type of the weights; auto is the folder's own.",
        BANK,
    )
    batch_size: int = field(16, SIZE, "Prompts that are answered at a time.", NOTHING)


@dataclasses.dataclass(frozen=True)
class SentenceConfig(Section):
    """The encoder `sentence_transformers`."""

    SECTION: ClassVar[str] = "knowledge.sentence"
    model: str = field("", TEXT, "A model folder, or a model's name on the hub.", BANK)
    device: str = field(
        "", TEXT, "Torch's name of the device; empty for the GPU, if there is one.", NOTHING
    )
    prefix: str = field(
        "", Text(lines=True), "Put before every text, where the model wants an instruction.", BANK
    )
    pooling: str = field(
        "model",
        Choice("model", "mean", "cls", "max", "lasttoken"),
        "How a text's tokens become one vector; model is as the model was trained.",
        BANK,
    )
    max_tokens: int = field(
        0,
        Whole(0, 10**6),
        "Tokens that are read of a text; 0 for as many as the model reads.",
        BANK,
    )
    batch_size: int = field(64, SIZE, "Texts that are encoded at a time.", NOTHING)


@dataclasses.dataclass(frozen=True)
class EmbedConfig(EndpointConfig):
    """The encoder `openai`, an embeddings endpoint."""

    SECTION: ClassVar[str] = "knowledge.embed"
    model: str = field("text-embedding-3-small", NAME, "Name of the model at that address.", BANK)
    dimensions: int = field(
        0,
        SIZE_OR_NONE,
        "E, for models that can shorten their vectors; 0 for the model's own.",
        BANK,
    )
    batch_texts: int = field(256, SIZE, "Texts of a request, at most.", NOTHING)
    batch_tokens: int = field(16_000, Whole(1, 10**8), "Tokens of a request, at most.", NOTHING)
    concurrency: int = field(8, REQUESTS, "Requests in flight at once.", NOTHING)
    price_prompt: float = field(
        0.0, PRICE, "Price of a million tokens of texts, for the estimate of cost.", NOTHING
    )
    price_answer: float = field(
        0.0, PRICE, "Price of a million tokens of answers; embeddings have none.", NOTHING
    )
    cache: str = field(
        "~/.cache/grasp_jax/embeddings",
        TEXT,
        "Folder that keeps vectors across runs and data sets.",
        NOTHING,
    )
