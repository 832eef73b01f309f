# %% [markdown]
# # First steps in Python
#
# This script trains a model on a synthetic shop, asks it for recommendations, tests and saves it, in about a minute on two cores. With your
# own data, the first cell reads `shop = gj.Dataset.read("folder")` or `gj.Dataset.from_frames(interactions, items)`; nothing else changes.
#
# Run it as a script, `python docs/examples/first_steps.py`, or cell by cell in an editor that knows `# %%`.

# %%
import pathlib
import tempfile

import grasp_jax as gj

shop = gj.Dataset.synthetic(num_users=300, num_items=200)
print(shop)

# %% [markdown]
# Any field of the config is an argument, checked as a flag of the command line is. `max_epochs` keeps this example short.

# %%
small = {
    "features": 16,
    "mlp": (32,),
    "knowledge__width": 32,
    "max_epochs": 5,
    "shared_negatives": 64,
}
model = gj.Recommender(method="grasp_plus", backbone="sasrec", dropout=0.3, **small)
model.fit(shop)

# %% [markdown]
# Recommendations for users of the data, and for people who are not in it, who are described by what they bought.

# %%
users = shop.user_ids[:2].tolist()
print(model.recommend(users=users, k=5))

some = shop.item_ids[:3].tolist()
print(model.recommend(histories=[some, some[:1], []], k=5))

# %% [markdown]
# Similar items, vectors for a click model or a vector database, and the test.

# %%
print(model.similar_items(some[:1], k=5))
print(model.item_vectors().head(2))
print(model.user_vectors(histories=[some]))
print(model.evaluate(metrics=["MAP@10", "Coverage@10", "Novelty@10"]).query("group == 'all'").T)

# %% [markdown]
# A saved model answers without the data.

# %%
with tempfile.TemporaryDirectory() as folder:
    model.save(pathlib.Path(folder) / "model")
    again = gj.Recommender.load(pathlib.Path(folder) / "model")
    print(again.recommend(histories=[some], k=5))

# %% [markdown]
# Another method on the same users: is the difference more than chance?

# %%
plain = gj.Recommender(method="plain", backbone="sasrec", dropout=0.3, features=16, max_epochs=5)
print(gj.compare([plain, model], shop).T)
