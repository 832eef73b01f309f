# %% [markdown]
# # Ratings, with genres as text
#
# MovieLens and similar data have ratings, a title and a few genres. This tutorial uses such tables from memory: it drops low ratings, takes
# the genres as text, and looks at films that are alike.
#
# The first cell makes small random tables of the same shape, because this package may not contain the real ones. For the real ones, run
# `grasp-jax fetch movielens-1m --into=ml`, and write `gj.Dataset.read("ml", min_rating=4.0)` instead of `from_frames` below. If you have
# downloaded MovieLens yourself (`ratings.csv`, `movies.csv`), `grasp-jax init FOLDER` prints the line of Python that reads it; add
# `min_rating=4.0` there.

# %%
import numpy as np

import grasp_jax as gj

rng = np.random.default_rng(0)
GENRES = ["Comedy", "Drama", "Horror", "Western", "Animation", "Crime"]
films = {
    "item": [f"m{n}" for n in range(240)],
    "title": [f"Film {n} ({1960 + n % 60})" for n in range(240)],
    "genres": ["|".join(sorted(rng.choice(GENRES, 2, replace=False))) for _ in range(240)],
}
ratings = {"user": [], "item": [], "rating": [], "timestamp": []}
for user in range(400):
    liked = rng.choice(GENRES, 2, replace=False)
    for place, film in enumerate(rng.choice(240, 12, replace=False)):
        fits = sum(genre in films["genres"][film] for genre in liked)
        ratings["user"].append(f"u{user}")
        ratings["item"].append(f"m{film}")
        ratings["rating"].append(float(min(5, 2 + 2 * fits + rng.integers(0, 2))))
        ratings["timestamp"].append(1_000_000_000 + 86_400 * place + user)

# %% [markdown]
# ## Keep what people liked
#
# `min_rating=4` trains on ratings of 4 and 5. Films that were rated lower still count as seen, so they are not recommended to the person
# who rated them.

# %%
data = gj.Dataset.from_frames(ratings, items=films, min_rating=4.0)
print("\n".join(data.summary()))

# %% [markdown]
# ## Train on titles and genres
#
# `genres` is a column of text, so it is part of each film's text without further settings. `semantic_neighbours` is the first number to
# beat: it ranks films by the cosine of their texts with the texts of the history, and needs no training.

# %%
small = {"features": 16, "knowledge__width": 16, "max_epochs": 6, "num_negatives": 50}
by_text = gj.Recommender(method="semantic_neighbours", **small).fit(data)
model = gj.Recommender(method="id_text_sum", dropout=0.3, **small).fit(data)
for name, own in (("semantic_neighbours", by_text), ("id_text_sum", model)):
    rows = own.evaluate()
    rows = rows[(rows["group"] == "all") & (rows["protocol"] == "full_unseen")]
    print(f"{name}: NDCG@10 {100 * rows['NDCG@10'].mean():.1f} %")

# %% [markdown]
# Here the trained model does not beat it: in these made-up data people like films by genre, and the training is short. On your own data,
# only a comparison tells, so include `semantic_neighbours` in each one.
#
# ## Films that are alike

# %%
genres = dict(zip(films["item"], films["genres"], strict=True))
alike = by_text.similar_items(["m0"], k=5)
print(f"m0 is {genres['m0']}; nearest: {[genres[item] for item in alike['similar']]}")

# %% [markdown]
# ## Next
#
# Genres say little about a film. Add a column with a plot summary to the table of films, and encode it with a sentence model:
# `encoder="sentence_transformers"` ([Text knowledge](../knowledge.md#vectors)). [Choosing](../choosing.md#a-text-encoder) says when this
# pays.
