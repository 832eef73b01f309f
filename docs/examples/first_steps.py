# %% [markdown]
# # First steps in Python
#
# This script trains a model on a synthetic shop, prints recommendations, tests the model and saves it, in about a minute on two cores. For
# your own data, write `shop = gj.Dataset.read("folder")` or `gj.Dataset.from_frames(interactions, items)` in the first cell, and leave out
# the small sizes in the second.
#
# An editor that knows `# %%` runs it cell by cell.

# %%
import pathlib
import tempfile

import grasp_jax as gj

shop = gj.Dataset.synthetic(num_users=300, num_items=200)
print(shop)

# %% [markdown]
# Any [field of the config](../config.md) is an argument. The small sizes and few epochs keep this example short.

# %%
small = {
    "features": 16,
    "mlp": (32,),
    "knowledge__width": 32,
    "max_epochs": 5,
}
model = gj.Recommender(method="grasp_plus", backbone="sasrec", dropout=0.3, **small)
model.fit(shop)

# %% [markdown]
# The first call recommends items to two users of the data. The second one does so for three people who are not in the data: each list is
# what a person bought, oldest item first. The last person bought nothing, and so gets the most popular items, without a score.

# %%
users = shop.user_ids[:2].tolist()
print(model.recommend(users=users, k=5))

some = shop.item_ids[:3].tolist()
print(model.recommend(histories=[some, some[:1], []], k=5))

# %% [markdown]
# The next cell prints similar items, the vectors of items and users (for a click model or a vector database), and the results of the test.
# `full_unseen` ranks the whole catalogue without the items that the user already has ([Evaluation protocols](../protocols.md)). MAP,
# coverage and novelty have rows of their own, because not all protocols measure them.

# %%
print(model.similar_items(some[:1], k=5))
print(model.item_vectors().head(2))
print(model.user_vectors(histories=[some]))
rows = model.evaluate(metrics=["MAP@10", "Coverage@10", "Novelty@10"])
shown = ["protocol", "NDCG@10", "HR@10", "MAP@10", "Coverage@10", "Novelty@10"]
print(rows[rows["group"] == "all"][shown].round(3).to_string(index=False))

# %% [markdown]
# A saved model answers without the data.

# %%
with tempfile.TemporaryDirectory() as folder:
    model.save(pathlib.Path(folder) / "model")
    again = gj.Recommender.load(pathlib.Path(folder) / "model")
    print(again.recommend(histories=[some], k=5))

# %% [markdown]
# Is a model that reads texts better than one without, on the same users and with the same loss? `difference` is the NDCG@10 of the second
# model minus that of the first, and `low` and `high` are its 95 % interval. Here no interval contains 0. But both models were trained for 5
# epochs on a synthetic shop, so this says nothing about real data. Next: [Choosing a method](../choosing.md), or
# [the other tutorials](index.md).

# %%
plain = gj.Recommender(
    method="sasrec_ce", backbone="sasrec", dropout=0.3, features=16, max_epochs=5
)
print(gj.compare([plain, model], shop).T)
