"""A click model with and without the recommender's representations, on held-out interactions of a synthetic shop.

    python docs/examples/click_model.py

The recommender is trained on all but each user's last interaction. The click model then sees ten items for each user: the one that the user
took next, and nine others, drawn in proportion to how often they are bought. It learns which one was taken: from popularity and the length
of the history alone, or also from the score, the cosine and the two vectors. Half of the users train it, the other half test it. AUC and
log loss have 95 % intervals over users.
"""

import pathlib
import tempfile

import numpy as np
import pyarrow.parquet as pq
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import log_loss, roc_auc_score

import grasp_jax as gj

SHOWN, RESAMPLES = 10, 200


def vectors(folder: pathlib.Path, name: str) -> tuple[dict[str, int], np.ndarray, np.ndarray]:
    """Row of each id, [n, D] vectors, and [n] numbers of interactions, of "user" or "item"."""
    table = pq.read_table(folder / {"user": "users", "item": "items.parquet"}[name])
    rows = {str(own): n for n, own in enumerate(table[name].to_pylist())}
    return rows, np.array(table["vector"].to_pylist()), table["interactions"].to_numpy()


def main() -> None:
    rng = np.random.default_rng(0)
    shop = gj.Dataset.synthetic(num_users=2_000, num_items=500)
    log = shop.log
    last = log.items[log.offsets[1:] - 1]  # what each user took last
    before = gj.Dataset.from_frames(
        {
            "user": np.repeat(shop.user_ids, log.lengths - 1),
            "item": shop.item_ids[np.delete(log.items, log.offsets[1:] - 1)],
        }
    )
    model = gj.Recommender(method="plain", loss="ce", max_epochs=20, split="none").fit(before)
    with tempfile.TemporaryDirectory() as folder:
        print(model.represent(folder))
        users, user_vectors, lengths = vectors(pathlib.Path(folder), "user")
        items, item_vectors, counts = vectors(pathlib.Path(folder), "item")

    people, shown, clicked = [], [], []
    for user, item in zip(shop.user_ids, shop.item_ids[last], strict=True):
        if str(user) in users and str(item) in items:
            others = rng.choice(len(items), SHOWN - 1, p=counts / counts.sum())
            people += [users[str(user)]] * SHOWN
            shown += [items[str(item)], *others]
            clicked += [1, *(others == items[str(item)]).astype(int)]
    person, item, label = np.array(people), np.array(shown), np.array(clicked)
    u, v = user_vectors[person], item_vectors[item]
    score = (u * v).sum(axis=1, keepdims=True)
    cosine = (
        score / np.linalg.norm(u, axis=1, keepdims=True) / np.linalg.norm(v, axis=1, keepdims=True)
    )
    plain = np.stack([counts[item], lengths[person]], axis=1)
    features = {"without": plain, "with": np.concatenate([plain, score, cosine, u, v], axis=1)}

    test = person % 2 == 1
    predicted = {
        name: HistGradientBoostingClassifier(random_state=0)
        .fit(rows[~test], label[~test])
        .predict_proba(rows[test])[:, 1]
        for name, rows in features.items()
    }
    label, groups = label[test], person[test]
    names, place = np.unique(groups, return_inverse=True)
    drawn = [
        np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))[place]
        for _ in range(RESAMPLES)
    ]
    print("representations   AUC                     log loss")
    for name, p in predicted.items():
        cells = []
        for measure in (roc_auc_score, log_loss):
            spread = [measure(label, p, sample_weight=weight) for weight in drawn]
            low, high = np.quantile(spread, [0.025, 0.975])
            cells.append(f"{measure(label, p):.3f} [{low:.3f}, {high:.3f}]")
        print(f"{name:17} {cells[0]:23} {cells[1]}")


if __name__ == "__main__":
    main()
