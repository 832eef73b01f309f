"""Several emulated devices compute together what one device computes."""

import pathlib
import sys

import pytest

from grasp_jax.core.errors import UserError
from grasp_jax.parallel.mesh import make_mesh
from tests.command_line import on_devices, run, write_dataset

TRIALS = ("plain-sasrec:8x1:device", "grasp-gru4rec:2x4:host")
MORE = (  # test_cross_entropy.py and test_rows.py see the sum over a divided catalogue, and the tables, at a smaller price
    *TRIALS[:1],
    "plain-sasrec-ce:2x4:device",
    "grasp-bert4rec:4x2:sharded",
    "llm_esr-bert4rec:1x4:device",
    "grasp_plus-bert4rec-ce:2x2:device",
)


@pytest.mark.parametrize("trials", [TRIALS, pytest.param(MORE, marks=pytest.mark.slow)])
def test_eight_devices_compute_what_one_does(
    trials: tuple[str, ...], tmp_path: pathlib.Path
) -> None:
    """A mesh would train another model, in another order or on other draws, leave the work undivided, or not take over a checkpoint."""
    write_dataset(tmp_path / "data")
    command = [sys.executable, "-m", "tests.mesh_trials", str(tmp_path), *trials]
    result = run(command, **on_devices(8))
    assert result.returncode == 0 and "all equal" in result.stdout, result.stderr[-3000:]


def test_more_devices_than_there_are() -> None:
    """A traceback from JAX, that names no field."""
    with pytest.raises(
        UserError,
        match=r"config\.mesh\.data x config\.mesh\.table: 64 x 64; expected at most \d+ .*device_count=4096",
    ):
        make_mesh(64, 64)
