# %% [markdown]
# # Compare methods
#
# Which method is better on your data, by how much, and is the difference more than chance? This tutorial compares three methods with one
# loss, one protocol and several seeds.
#
# For your own data, replace the synthetic shop in the next cell, for instance by `gj.Dataset.read("folder")`, and delete `small`.

# %%
import grasp_jax as gj

shop = gj.Dataset.synthetic(num_users=400, num_items=300, seed=2)
small = {
    "features": 16,
    "mlp": (32,),
    "knowledge__width": 32,
    "max_epochs": 5,
}  # for a short example
same = {
    **small,
    "seeds": (1, 2, 3),
    "eval__select": "full_unseen",  # what validation looks at
}

# %% [markdown]
# All three are trained with cross-entropy over the whole catalogue, because the loss often matters more than the method. `llminit` needs
# `loss="ce"` for this: its default is the loss of its paper. The three seeds of a method are trained together.

# %%
methods = {
    "sasrec_ce": gj.Recommender(method="sasrec_ce", dropout=0.3, **same),
    "llminit": gj.Recommender(method="llminit", loss="ce", dropout=0.3, **same),
    "grasp_plus": gj.Recommender(method="grasp_plus", dropout=0.3, **same),
}
for model in methods.values():
    model.fit(shop)

# %% [markdown]
# ## The numbers
#
# The cell prints mean and standard deviation over seeds, in percent. `full_unseen` ranks the whole catalogue without the items that the
# user already has. The group `tail_item` has the users whose next item has few training interactions.

# %%
for name, model in methods.items():
    rows = model.evaluate()
    for group in ("all", "tail_item"):
        own = rows[(rows["protocol"] == "full_unseen") & (rows["group"] == group)]["NDCG@10"] * 100
        print(f"{name:12} {group:10} NDCG@10 {own.mean():5.2f} ± {own.std():.2f}")

# %% [markdown]
# ## Is it more than chance?
#
# Each row is a pair. `difference` is the mean NDCG@10 of the second model minus that of the first; `low` and `high` are a 95 % interval
# over users and seeds; `p_value` is corrected for the number of pairs (Holm).

# %%
pairs = gj.compare(list(methods.values()))
pairs = pairs[pairs["protocol"] == "full_unseen"].drop(columns="protocol")
print(pairs.round(4).to_string(index=False))

# %% [markdown]
# Read the interval first: if it contains 0, these data do not say which of the two is better. Here no interval does. A small p-value does
# not mean that the difference is large. These short trainings on a synthetic shop say nothing about real data.
#
# ## Next
#
# * [Evaluation protocols](../protocols.md): what can go wrong with such a table.
# * `--mode=report` makes a page of finished runs, with tables and figures: [Command line](../command-line.md#modes).
# * [Add a method](../extending.md): a method of your own goes into `methods` by its name.
