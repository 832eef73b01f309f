"""Today's training starts from yesterday's models, by the ids of items and not by their rows."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grasp_jax.training.checkpoint import Checkpoints
from grasp_jax.training.start_from import earlier_rows, save_item_ids, start_from
from tests.command_line import arguments, one_line_error, run, write_dataset
from tests.refusal import assert_names, refusal

ROWS = np.array([2, -1, 0, 1])  # today's items: two have moved, one is new, all of yesterday's three are there


def params(models: int, items: int, positions: int, seed: int) -> dict:
    rng = np.random.default_rng(seed)
    shapes = {"encoder": {"table": (items, 5), "kernel": (5, 5)}, "backbone": {"positions": (positions, 5)}}
    return jax.tree.map(lambda shape: jnp.asarray(rng.normal(size=(models, *shape))), shapes, is_leaf=lambda part: isinstance(part, tuple))


def saved(folder: pathlib.Path, positions: int = 7) -> dict:
    tree = {"best_params": params(3, 3, positions, seed=1), "progress": {"best": np.array([0.1, 0.3, 0.2])}}
    checkpoints = Checkpoints(folder / "best")
    checkpoints.save(4, tree)
    checkpoints.close()
    return tree["best_params"]


@pytest.mark.parametrize("positions", [4, 7, 9])
def test_parameters_are_the_best_models(tmp_path: pathlib.Path, positions: int) -> None:
    """An item would get another's vector where rows have moved; a new one a row of nobody; or longer histories not fit."""
    earlier, fresh = saved(tmp_path), params(2, 4, positions, seed=2)
    started = start_from(fresh, tmp_path, ROWS)
    for m in range(2):
        np.testing.assert_array_equal(started["encoder"]["table"][m, [0, 2, 3]], earlier["encoder"]["table"][1, [2, 0, 1]])
        np.testing.assert_array_equal(started["encoder"]["table"][m, 1], fresh["encoder"]["table"][m, 1])
        np.testing.assert_array_equal(started["encoder"]["kernel"][m], earlier["encoder"]["kernel"][1])
        shared, own = min(positions, 7), started["backbone"]["positions"][m]
        np.testing.assert_array_equal(own[:shared], earlier["backbone"]["positions"][1, :shared])
        np.testing.assert_array_equal(own[shared:], fresh["backbone"]["positions"][m, shared:])


def test_other_models_are_refused(tmp_path: pathlib.Path) -> None:
    """A model of another width, or another kind, would end in a traceback of JAX."""
    saved(tmp_path)
    narrow = jax.tree.map(lambda leaf: leaf[..., :4], params(2, 4, 7, seed=2))
    assert_names(refusal(start_from, narrow, tmp_path, ROWS), ("config.train.start_from", "backbone.positions", "(7, 5)", "config.model"))
    other = {"encoder": params(2, 4, 7, seed=2)["encoder"]}
    assert_names(refusal(start_from, other, tmp_path, ROWS), ("config.train.start_from", "another kind of model"))
    assert_names(refusal(start_from, narrow, tmp_path / "gone", ROWS), ("config.train.start_from", "gone", "holds no checkpoint"))


def test_rows_are_found_by_id(tmp_path: pathlib.Path) -> None:
    """Yesterday's third item is not today's third."""
    save_item_ids(np.array(["a", "b", "c"]), tmp_path)
    assert earlier_rows(np.array(["c", "new", "a"]), tmp_path).tolist() == [2, -1, 0]
    assert_names(refusal(earlier_rows, np.array(["a"]), tmp_path / "gone"), ("config.train.start_from", "gone", "cannot be read"))


def first_loss(workdir: pathlib.Path) -> float:
    return json.loads((workdir / "metrics.jsonl").read_text().splitlines()[0])["loss"]


def test_retraining_goes_on_from_yesterday(tmp_path: pathlib.Path) -> None:
    """The flag would be read and the models start from nothing; a run that is killed at once would forget where it began."""
    data = write_dataset(tmp_path / "data")
    few = ("--config.eval.full=False", "--config.train.learning_rate=0.01", "--config.train.max_epochs=6")
    assert run(arguments(data, tmp_path / "monday", *few)).returncode == 0
    one = (*few[:2], "--config.train.max_epochs=1")
    result = run(arguments(data, tmp_path / "tuesday", *one, f"--config.train.start_from={tmp_path / 'monday'}"))
    assert result.returncode == 0, result.stderr
    assert "starts from" in result.stdout and first_loss(tmp_path / "tuesday") < 0.9 * first_loss(tmp_path / "monday")
    error = one_line_error(run(arguments(data, tmp_path / "other", *one, f"--config.train.start_from={tmp_path / 'nowhere'}")))
    assert_names(error, ("config.train.start_from", "nowhere"))
