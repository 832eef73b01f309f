# %% [markdown]
# # LLM descriptions with a local endpoint
#
# A language model writes a short description of every item, and a text encoder makes vectors of the descriptions. The model runs behind an
# endpoint on your own machine, so no text leaves it. First start a server in another terminal: Ollama, which must run before it can pull a
# model, or vLLM. Both download the model. Any other server that speaks OpenAI's protocol will do too.
#
# ```text
# ollama serve                                      # http://localhost:11434/v1
# ollama pull qwen2.5:7b                            # in a third terminal
#
# vllm serve Qwen/Qwen2.5-7B-Instruct --port 8000   # http://localhost:8000/v1
# ```
#
# Install what the script needs with `pip install '.[text,pandas]'`. Then name the server's address, and the model as the server knows it:
#
# ```text
# OPENAI_BASE_URL=http://localhost:11434/v1 MODEL=qwen2.5:7b python docs/examples/describe_items.py
# ```
#
# The output below came from the small server that the tests use in place of a language model. That server repeats each prompt, so the
# numbers say nothing about descriptions. With a real model they may differ in either direction.

# %%
import os
import pathlib
import tempfile

import numpy as np

import grasp_jax as gj

address = os.environ.get("OPENAI_BASE_URL", "http://localhost:11434/v1")
language_model = os.environ.get("MODEL", "qwen2.5:7b")
shop = gj.Dataset.synthetic(num_users=100, num_items=100)
small = {"features": 16, "knowledge__width": 32, "max_epochs": 5, "num_negatives": 50}

# %% [markdown]
# ## Without descriptions
#
# This is the model to beat. Here the text of an item is its filled template: the title and the attributes.

# %%
plain = gj.Recommender(method="id_text_sum", dropout=0.3, **small).fit(shop)

# %% [markdown]
# ## With descriptions
#
# Every item is one request: here 100. With data of your own, every user is one more request (this shop comes with texts of its users). It
# holds the titles of the training history, never those of the items that are held back for the test. Each answer is stored in the folder
# `describe__cache` as soon as it arrives, so an interrupted run continues, and no prompt is sent twice. By default all your runs share the
# folder `~/.cache/grasp_jax/answers`.

# %%
folder = pathlib.Path(tempfile.mkdtemp())
by_llm = {
    "describer": "openai",
    "describe__base_url": address,
    "describe__model": language_model,
    "describe__concurrency": 8,  # as many requests at once as your server can take
    "describe__cache": str(folder / "answers"),
}
described = gj.Recommender(method="id_text_sum", dropout=0.3, **small, **by_llm)
described.fit(shop, workdir=folder / "run")

# %% [markdown]
# Before you send a catalogue of your own, run `--mode=prepare --dry-run` on the command line. It sends nothing, and prints how many prompts
# would go where, about how many tokens they have and, if you set the prices, what they cost.
#
# ## Were the answers useful?
#
# `items_status.npy` has a number for each item. 0 says that the answer is used. Any other number says that the model did not know the item,
# refused, or wrote nothing; then the filled template is used.

# %%
status = np.load(folder / "run" / "knowledge" / "items_status.npy")
print(f"{(status == 0).sum()} of {len(status)} items have a description of the model")

# %% [markdown]
# ## Did it help?
#
# Descriptions cost time or money, so compare. Both models have the same method and backbone; the second one, with descriptions, is marked
# (1). `difference` is the NDCG@10 with descriptions minus that without. If 0 lies between `low` and `high`, these data do not say which
# model is better.

# %%
pairs = gj.compare([plain, described], shop)
pairs = pairs[pairs["protocol"] == "full_unseen"].drop(columns="protocol")
print(pairs.round(4).to_string(index=False))

# %% [markdown]
# ## The next run is free
#
# Another method reads the same answers from the cache. The server need not run any more.

# %%
again = gj.Recommender(method="llminit", dropout=0.3, **small, **by_llm)
again.fit(shop, workdir=folder / "second")
print(again.recommend(users=shop.user_ids[:1], k=3).to_string(index=False))

# %% [markdown]
# ## Next
#
# * [Text knowledge](../knowledge.md#descriptions): templates of your own, costs, limits of requests, models in a folder without a server.
# * [How far to trust the knowledge](../trust.md): `--mode=audit` looks for wrong descriptions.
# * A sentence model in place of the default encoder: `encoder="sentence_transformers"`.
