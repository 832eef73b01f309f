"""Defaults of `config.knowledge`: how texts are written, encoded and looked up."""

from typing import Any

KNOWLEDGE: dict[str, Any] = {
    "path": "",  # empty: WORKDIR/knowledge
    "since": "",  # a bank of an earlier day: only what is new or changed is encoded and searched; also --since=BANK
    "centre_from": "",  # a bank whose centre is taken out of the rows, in place of their own
    "describer": "template",  # template (the filled template) | openai (a chat endpoint answers it) | transformers (a model folder does)
    "describe": {  # of the describer openai; temperature, max_tokens, max_characters and cache are also the describer transformers'
        "base_url": "",  # of an OpenAI-compatible server, http://localhost:8000/v1; empty: OpenAI
        "model": "gpt-4o-mini",
        "key_variable": "OPENAI_API_KEY",  # name of the environment variable with the key; keys stand nowhere else
        "temperature": 0.0,
        "max_tokens": 300,
        "max_characters": 4000,  # longer answers are cut
        "concurrency": 32,  # requests in flight
        "requests_per_minute": 0,  # 0: no limit
        "tokens_per_minute": 0,
        "timeout": 60.0,  # seconds
        "retries": 8,
        "price_prompt": 0.0,  # of a million tokens, for the progress bar and --dry-run
        "price_answer": 0.0,
        "cache": "~/.cache/grasp_jax/answers",  # kept across runs and datasets
    },
    "local": {  # of the describer transformers
        "model": "",  # folder of an instruction-tuned model, such as Qwen2.5-7B-Instruct
        "device": "",  # empty: the GPU, if there is one
        "dtype": "auto",  # auto (the folder's own) | float32 | bfloat16 | float16
        "batch_size": 16,  # prompts at a time
    },
    "encoder": "lsa",  # lsa | tfidf_projection | sentence_transformers | openai | file
    "sentence": {  # of the encoder sentence_transformers
        "model": "",  # a model folder, or a name on the hub
        "device": "",  # empty: the GPU, if there is one
        "prefix": "",  # put before every text, where the model wants an instruction
        "pooling": "model",  # of a text's tokens: as the model was trained, or mean | cls | max | lasttoken
        "max_tokens": 0,  # 0: as many as the model reads
        "batch_size": 64,
    },
    "embed": {  # of the encoder openai
        "base_url": "",
        "model": "text-embedding-3-small",
        "key_variable": "OPENAI_API_KEY",
        "dimensions": 0,  # E, for models that can shorten their vectors; 0: the model's own
        "batch_texts": 256,
        "batch_tokens": 16_000,
        "concurrency": 8,
        "requests_per_minute": 0,
        "tokens_per_minute": 0,
        "timeout": 60.0,
        "retries": 8,
        "price_prompt": 0.0,
        "price_answer": 0.0,
        "cache": "~/.cache/grasp_jax/embeddings",
    },
    "width": 256,  # E of lsa and tfidf_projection
    "seed": 0,
    "item_template": "listed_item",
    "user_template": "shopper_user",
    "text_columns": (),  # of the items table, what {attributes} is made of; empty: its column of that name, or else all columns of text
    "personal_fields": (  # columns of the users table that stay on this machine and out of every text
        "name",
        "gender",
        "age",
        "birthplace",
        "zodiac",
        "province",
        "city",
        "phone",
        "school",
        "career",
        "education",
        "marital_status",
        "spending_power",
    ),  # fmt: skip
    "share_personal_fields": (),  # those of them that may be told to the describer and the encoder after all
    "item_file": "",
    "user_file": "",
    "item_ids_file": "",
    "user_ids_file": "",
    "num_neighbours": 10,  # K
    "pooling": "mean",  # of neighbours: mean (Eq. 2) | similarity (weighted by cosine)
    "retrieval": "exact",  # exact | scann
    "group_column": "",  # neighbours of an item share its value of this column of the items table
    "user_group_column": "",  # neighbours of a user, of the users table
    "exclude_copies": False,  # rows with one and the same text are no neighbours of each other
    "min_recall": 0.9,  # of the true neighbours that scann must find
    "recall_sample": 1000,  # rows on which that is measured
    "reduction": {"kind": "none", "width": 0},  # to so many numbers: none | truncate (Matryoshka models) | pca (fitted on training items)
    "center": True,
    "whiten": False,  # the same variance along every direction of training items
    "dtype": "float32",  # of the tables on disk: float32 | float16 | bfloat16
    "verify": True,
    "audit": {  # of --mode=audit; decides nothing else, so it may change between calls on one workdir
        "history_groups": (1, 2, 3, 5, 10, 20, 50),  # where a group of lengths of training histories (of items: purchases) begins
        "texts": 2000,  # read in a group, drawn at random, for what costs time: claims and kept words
        "pairs": 20_000,  # random pairs of rows whose cosine is measured
        "duplicate_cosine": 0.95,  # from which stored neighbours count as near-duplicates
        "category_column": "",  # of the items table; empty: group_column, or category, or categories
        "sheet_rows": 20,  # of each group in the sheet for raters
        "seed": 0,
    },
    "corruption": {"kind": "none", "share": 0.0, "seed": 0},  # none | swap | template | drop: knowledge/corruption.py
}
HOW_FAST = (  # and at what price: no vector depends on them
    *(f"{section}.{name}" for section in ("describe", "embed") for name in (
        "base_url", "key_variable", "concurrency", "requests_per_minute", "tokens_per_minute", "timeout", "retries", "price_prompt",
        "price_answer", "cache",
    )),
    "embed.batch_texts", "embed.batch_tokens", "sentence.device", "sentence.batch_size", "local.device", "local.batch_size",
    "recall_sample", "min_recall",
)  # fmt: skip
