"""Dropout and learning rate chosen by Optuna, which stops trials that fall behind: pip install optuna.

    python docs/examples/tune_with_optuna.py

Optuna's pruner sees the validation NDCG@10 of every epoch through a callback; a callback that returns True ends the training.
"""

import optuna

import grasp_jax as gj
from grasp_jax.training.callbacks import EpochRecord


def objective(trial: optuna.Trial) -> float:
    """The best validation NDCG@10 of one setting."""
    model = gj.Recommender(
        method="plain",
        features=16,
        max_epochs=20,
        dropout=trial.suggest_float("dropout", 0.1, 0.6),
        learning_rate=trial.suggest_float("learning_rate", 1e-3, 1e-2, log=True),
    )
    best = 0.0

    def report(record: EpochRecord) -> bool:
        nonlocal best
        best = record.best or 0.0
        trial.report(record.valid_score or 0.0, record.epoch)
        return trial.should_prune()

    model.fit(SHOP, callbacks=[report])
    return best


if __name__ == "__main__":
    SHOP = gj.Dataset.synthetic(num_users=300, num_items=200)
    study = optuna.create_study(
        direction="maximize", pruner=optuna.pruners.MedianPruner(n_warmup_steps=5)
    )
    study.optimize(objective, n_trials=10)
    print(study.best_params, study.best_value)
