# %% [markdown]
# # Refresh every day
#
# On Monday you train a model. On Tuesday there are more purchases and a few new items. This tutorial shows how to keep up: add the new
# items at once, continue training from Monday's model, and update the vectors of users and items. The commands for production are [at the
# end](#in-production). The first cell only makes the tables of a small shop.

# %%
import pathlib
import tempfile

import grasp_jax as gj

folder = pathlib.Path(tempfile.mkdtemp())
shop = gj.Dataset.synthetic(num_users=300, num_items=200, seed=3)
log, texts = shop.log, shop.texts.items.columns
purchases = [
    {"user": f"c{user}", "item": f"i{item}", "timestamp": int(time) - 10 * 365 * 86_400}
    for user, item, time in zip(log.users, log.items, log.timestamps, strict=True)
]
products = [
    {"item": f"i{n}", "title": title, "kinds": ", ".join(kinds)}
    for n, (title, kinds) in enumerate(zip(texts["title"], texts["attributes"], strict=True))
]


def columns(rows):
    """Rows as a dictionary of columns."""
    return {name: [row[name] for row in rows] for name in rows[0]}


# %% [markdown]
# ## Monday
#
# Nine tenths of the purchases have happened, and ten items are not listed yet.

# %%
moment = sorted(row["timestamp"] for row in purchases)[9 * len(purchases) // 10]
listed = products[:-10]
known = {row["item"] for row in listed}
before = [row for row in purchases if row["timestamp"] < moment and row["item"] in known]
small = {"features": 16, "mlp": (32,), "knowledge__width": 32, "max_epochs": 4}
monday = gj.Recommender(method="grasp_plus", dropout=0.3, **small)
monday.fit(
    gj.Dataset.from_frames(columns(before), items=columns(listed)), workdir=folder / "monday"
)
first = monday.represent(folder / "vectors")
print(f"{first.computed} users computed")

# %% [markdown]
# ## Tuesday, at once: new items by their texts
#
# `add_items` reads the texts of the new items and trains nothing. From now on they are recommended like other items.

# %%
print(monday.add_items(columns(products[-10:])), "new items")

# %% [markdown]
# ## Tuesday: continue training from Monday's model
#
# `start_from` names Monday's workdir, the folder in which `fit` keeps its results. Items are matched by id, and an epoch is kept only if
# validation finds it better than Monday's model. `since` names the workdir with Monday's text vectors: only new or changed texts are
# encoded, with Monday's encoder, so the vectors of both days can be compared.

# %%
today = gj.Dataset.from_frames(columns(purchases), items=columns(products))
tuesday = gj.Recommender(
    method="grasp_plus",
    dropout=0.3,
    start_from=str(folder / "monday"),
    since=str(folder / "monday"),
    **small,
)
tuesday.fit(today, workdir=folder / "tuesday")
print(tuesday.recommend(users=["c0"], k=3).to_string(index=False))

# %% [markdown]
# ## Vectors for a ranking model
#
# `represent` on yesterday's folder computes only the users whose vectors may have changed. The first call has a new model, so it computes
# all users. The second call has the same model and no new purchase, so it computes none.

# %%
again = tuesday.represent(folder / "vectors")
same = tuesday.represent(folder / "vectors")
print(f"{again.computed} users computed, then {same.computed}")

# %% [markdown]
# ## In production
#
# Every night, add the new day to the data: if the log is a folder of Parquet files, put one more file into it; if it is a CSV file, append
# the new rows. Then continue the training, refit, save, and give the saved model to
# the running service:
#
# ```bash
# grasp-jax --config=CONFIG --workdir=runs/tuesday --config.model.method=grasp_plus \
#     --config.train.start_from=runs/monday --since=runs/monday
# grasp-jax --workdir=runs/tuesday --mode=refit
# python -c "import grasp_jax as gj; gj.Recommender.load('runs/tuesday').save('models/tuesday')"
# curl localhost:8000/reload -X POST -H 'content-type: application/json' -d '{"path": "tuesday"}'
# ```
#
# 1. The new day has a workdir of its own: Monday's belongs to Monday's data, and refuses to answer when the data have changed. So serve
#    saved models, which hold no data: `grasp-serve models/monday --models=models` ([Serving](../serving.md#requests)).
# 2. The refit trains once more on all interactions. Without it, the model has not trained on each user's last two purchases, which are the
#    newest. If no epoch of the new day was better than Monday's model, the refit is Monday's model and one epoch on all interactions.
# 3. `--mode=prepare --since=runs/monday` can make the text vectors earlier in the night, as soon as the texts are there. A line that begins
#    with `warning:` says that the log has lost interactions since Monday, as a file does that was cut off.
# 4. Once a week, train from nothing and compare: without `start_from`, into a new workdir. To keep the name of a workdir, use
#    `--mode=refresh`: it moves the old results to `WORKDIR/earlier` and trains from nothing on the new data. Then refit and save as above.
# 5. `--config.train.new_since=DATE` makes a day cheaper: an epoch then reads only the people with purchases since that date and, for each
#    of them, three others ([Training on](../workdir.md#training-on-from-an-earlier-run)).
# 6. Items that nobody has bought yet are recommended more often if they are left out of the items table of the training (a line that begins
#    with `new items:` counts them). Then add them before the model is saved: `model = gj.Recommender.load('runs/tuesday')`,
#    `model.add_items(frame)`, `model.save('models/tuesday')`.
#
# **A person who wants to be deleted.** Remove their rows from the log and from the table of users. The next day's workdir, its text vectors
# and its saved model then hold nothing under their id; the warning that the log has lost interactions is right here. Then delete:
#
# * **the workdirs of all earlier days**, after the next day is trained. They name users in `knowledge/users_ids.npy`, `refit/`, `ranks/`,
#   `examples/` and `read.json`, and `knowledge/` has the vectors of their texts;
# * **files of recommendations and reports** that were made from these workdirs;
# * **answers of language models** about users (`knowledge.describe.cache`, [Text knowledge](../knowledge.md)), if you had people described.
#
# A saved model holds no ids of users. But it was trained on their purchases, and so was each model that continues from it
# (`start_from`). If that must end too, train once from nothing and serve that model.
#
# [Text knowledge](../knowledge.md#the-next-day) has the details. In seven steps of a week on Amazon Beauty, continuing lost 3.7 % (± 3.6)
# of the NDCG@10 of training from nothing, in 14 % of its processor time
# ([Studies](../studies.md#seven-steps-of-a-week-continued-training)).
