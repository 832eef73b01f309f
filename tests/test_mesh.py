"""Several emulated devices compute together what one device computes."""

import pathlib
import sys
import types

import jax
import pytest

from grasp_jax.config import Config
from grasp_jax.core.errors import UserError
from grasp_jax.parallel.mesh import make_mesh, mesh_shape
from grasp_jax.planning.sizes import devices_of
from grasp_jax.trials import run as runs
from tests.command_line import on_devices, run, write_dataset
from tests.refusal import assert_names, refusal

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


def test_several_processes_share_all_devices() -> None:
    """The examples of launch/, which name no mesh, would be refused, or a mesh leave a process without work."""
    assert mesh_shape(1, 1, available=8, processes=1) == (1, 1)
    assert mesh_shape(1, 1, available=8, processes=2) == (8, 1)
    assert mesh_shape(2, 4, available=8, processes=2) == (2, 4)
    for mesh in ((2, 1), (4, 4)):
        said = refusal(mesh_shape, *mesh, 8, 2)
        assert_names(said, (f"{mesh[0]} x {mesh[1]}", "--config.mesh.data=8 --config.mesh.table=1"))


def test_what_one_device_alone_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """With several processes and the default mesh, a job that fits would be refused, or kernels be cut into parts."""
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    assert devices_of(Config()) == 8
    assert devices_of(Config.from_dict({"mesh.data": 4, "mesh.table": 2})) == 8
    monkeypatch.setattr(runs, "make_mesh", lambda *_: types.SimpleNamespace(size=8))
    asked = Config.from_dict({"kernels": "backbone"})
    assert_names(refusal(runs.mesh_of, asked), ("config.kernels: 'backbone'", "8 devices of 2"))
