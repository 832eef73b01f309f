# %% [markdown]
# # Your CSV to recommendations
#
# You have two CSV files from a shop, orders and products, with column names of your own. This tutorial reads them, trains a model, and
# writes a CSV with the top five items of every customer.
#
# The first cell makes such files, so that the script runs anywhere. With your own files, skip it.

# %%
import csv
import datetime
import pathlib
import tempfile

import grasp_jax as gj

folder = pathlib.Path(tempfile.mkdtemp())
shop = gj.Dataset.synthetic(num_users=400, num_items=300, seed=1)
texts, log = shop.texts.items.columns, shop.log
with open(folder / "orders.csv", "w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["customer", "sku", "bought_at", "price"])
    for user, item, time in zip(log.users, log.items, log.timestamps, strict=True):
        day = datetime.datetime.fromtimestamp(int(time) - 10 * 365 * 86_400)
        rows.writerow([f"c{user}", f"sku-{item}", day.isoformat(), 9.99])
with open(folder / "products.csv", "w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["sku", "name", "category"])
    for item, (title, kinds) in enumerate(zip(texts["title"], texts["attributes"], strict=True)):
        rows.writerow([f"sku-{item}", title, "; ".join(kinds)])

# %% [markdown]
# ## Read
#
# The first argument names the file of orders, and `columns` its columns. `items_file` names the file of products, and `items_id_column` and
# `title_column` its columns. All other columns of text become part of an item's text.

# %%
mine = gj.Dataset.read(
    folder / "orders.csv",
    columns={"user": "customer", "item": "sku", "timestamp": "bought_at"},
    items_file=str(folder / "products.csv"),
    items_id_column="sku",
    title_column="name",
)
print("\n".join(mine.summary()).replace(str(folder), "FOLDER"))

# %% [markdown]
# Read the summary before you train. It says which column was used for what. If you miss a column there, it has another name in your file.
#
# ## Train
#
# `grasp_plus` reads IDs and texts. The small sizes keep this tutorial short; leave them out for real data.

# %%
small = {"features": 16, "mlp": (32,), "knowledge__width": 32, "max_epochs": 4}
model = gj.Recommender(method="grasp_plus", dropout=0.3, **small)
model.fit(mine, workdir=folder / "run")
print(model)

# %% [markdown]
# ## Recommend
#
# Items that a customer has bought already are left out, unless you say `exclude_seen=False`.

# %%
answers = model.recommend(k=5)
answers.to_csv(folder / "recommendations.csv", index=False)
print(answers.head(5).to_string(index=False))

# %% [markdown]
# For people who are not in the data, pass what they bought, oldest item first:

# %%
print(model.recommend(histories=[["sku-3", "sku-10"]], k=3).to_string(index=False))

# %% [markdown]
# ## Next
#
# * [Compare methods](compare_methods.md): is this better than a model without text?
# * [Serve a model](serve_a_model.md): the same answers by HTTP.
# * [Data formats](../data-formats.md): every file and column.
