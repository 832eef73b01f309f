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
    """Fields of every OpenAI-compatible endpoint; base class of its sections."""

    base_url: str = field(
        "",
        ADDRESS,
        "Address of an OpenAI-compatible server, such as http://localhost:8000/v1; empty for "
        "OpenAI itself.",
        NOTHING,
    )
    key_variable: str = field(
        "OPENAI_API_KEY", VARIABLE, "Name of the environment variable with the key.", NOTHING
    )
    requests_per_minute: int = field(
        0, COUNT_OR_NONE, "Largest number of requests per minute; 0: no limit.", NOTHING
    )
    tokens_per_minute: int = field(
        0, COUNT_OR_NONE, "Largest number of tokens per minute; 0: no limit.", NOTHING
    )
    timeout: float = field(
        60.0, SECONDS, "Longest waiting time for an answer, in seconds.", NOTHING
    )
    retries: int = field(
        8, RETRIES, "Largest number of times that a failed request is repeated.", NOTHING
    )
    cache_by: str = field(
        "address",
        Choice("address", "model"),
        "Which answers of the cache are used. address: those of the model of this name at this "
        "address. model: these, and those that were kept without an address; use this value if "
        "one server has several addresses, or for the answers of version 0.3.0 and earlier.",
        NOTHING,
    )


@dataclasses.dataclass(frozen=True)
class DescribeConfig(EndpointConfig):
    """The describer `openai`. The describer `transformers` also uses the fields about answers and the cache."""

    SECTION: ClassVar[str] = "knowledge.describe"
    model: str = field("gpt-4o-mini", NAME, "Name of the model at that address.", BANK)
    temperature: float = field(
        0.0, Real(0, 100), "Randomness of the answers; 0 takes the most likely token.", BANK
    )
    max_tokens: int = field(300, Whole(1, 10**6), "Largest length of an answer, in tokens.", BANK)
    max_characters: int = field(
        4000, Whole(1, 10**8), "Longer answers are cut at this length, in characters.", BANK
    )
    concurrency: int = field(32, REQUESTS, "Largest number of requests in flight.", NOTHING)
    price_prompt: float = field(
        0.0, PRICE, "Price per million tokens of prompts, for the estimate of the cost.", NOTHING
    )
    price_answer: float = field(
        0.0, PRICE, "Price per million tokens of answers, for the estimate of the cost.", NOTHING
    )
    cache: str = field(
        "~/.cache/grasp_jax/answers",
        TEXT,
        "Folder that keeps answers for all runs and data sets.",
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
        "", TEXT, "Device, as PyTorch names it; empty for the GPU, if there is one.", NOTHING
    )
    dtype: str = field(
        "auto",
        Choice("auto", "float32", "bfloat16", "float16"),
        "Number type of the weights; auto is the folder's own.",
        BANK,
    )
    batch_size: int = field(16, SIZE, "Number of prompts that are answered together.", NOTHING)


@dataclasses.dataclass(frozen=True)
class SentenceConfig(Section):
    """The encoder `sentence_transformers`."""

    SECTION: ClassVar[str] = "knowledge.sentence"
    model: str = field(
        "", TEXT, "A model folder, or the name of a model on the Hugging Face hub.", BANK
    )
    device: str = field(
        "", TEXT, "Device, as PyTorch names it; empty for the GPU, if there is one.", NOTHING
    )
    prefix: str = field(
        "",
        Text(lines=True),
        "Text before every encoded text, for models that need an instruction.",
        BANK,
    )
    pooling: str = field(
        "model",
        Choice("model", "mean", "cls", "max", "lasttoken"),
        "How the tokens of a text become one vector; model: as the model was trained.",
        BANK,
    )
    max_tokens: int = field(
        0,
        Whole(0, 10**6),
        "Number of tokens of a text that are read; 0 for the limit of the model.",
        BANK,
    )
    batch_size: int = field(64, SIZE, "Number of texts that are encoded together.", NOTHING)


@dataclasses.dataclass(frozen=True)
class EmbedConfig(EndpointConfig):
    """The encoder `openai`, an embeddings endpoint."""

    SECTION: ClassVar[str] = "knowledge.embed"
    model: str = field("text-embedding-3-small", NAME, "Name of the model at that address.", BANK)
    dimensions: int = field(
        0,
        SIZE_OR_NONE,
        "E, for models that can shorten their vectors; 0 for the model's own width.",
        BANK,
    )
    batch_texts: int = field(256, SIZE, "Largest number of texts per request.", NOTHING)
    batch_tokens: int = field(
        16_000, Whole(1, 10**8), "Largest number of tokens per request.", NOTHING
    )
    concurrency: int = field(8, REQUESTS, "Largest number of requests in flight.", NOTHING)
    price_prompt: float = field(
        0.0, PRICE, "Price per million tokens of texts, for the estimate of the cost.", NOTHING
    )
    price_answer: float = field(
        0.0, PRICE, "Price per million tokens of answers; embeddings have none.", NOTHING
    )
    cache: str = field(
        "~/.cache/grasp_jax/embeddings",
        TEXT,
        "Folder that keeps vectors for all runs and data sets.",
        NOTHING,
    )
