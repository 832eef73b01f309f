"""E, the width of the text vectors, as `--mode=plan` takes it from the config and from files."""

import pathlib
from typing import Any

import numpy as np
import pytest

from grasp_jax import modes
from grasp_jax.config import Config, KnowledgeConfig
from grasp_jax.planning.plan import plan_lines
from grasp_jax.planning.text_width import text_width
from tests.refusal import assert_names, refusal


def knowledge(**fields: Any) -> KnowledgeConfig:
    named = {f"knowledge.{name.replace('__', '.')}": value for name, value in fields.items()}
    return Config().with_fields(named).knowledge


def test_the_width_is_that_of_the_encoder(tmp_path: pathlib.Path) -> None:
    """A plan would count tables of 256 numbers where the vectors have 768, and call a mesh large enough that holds a third of them."""
    from safetensors.numpy import save_file

    np.save(tmp_path / "items.npy", np.zeros((3, 768), np.float32))
    save_file({"embeddings": np.zeros((3, 384), np.float32)}, tmp_path / "items.safetensors")
    for name, width in (("items.npy", 768), ("items.safetensors", 384)):
        own = knowledge(encoder="file", item_file=str(tmp_path / name))
        assert text_width(own, None) == (width, "")
    assert text_width(knowledge(encoder="openai", embed__dimensions=1536), None) == (1536, "")
    reduced = knowledge(encoder="openai", reduction__kind="pca", reduction__width=64)
    assert text_width(reduced, None) == (64, "")
    assert text_width(knowledge(encoder="lsa", width=48), None) == (48, "")


def test_a_width_that_nobody_knows_is_said() -> None:
    """config.knowledge.width would be printed as E of an encoder that does not read it."""
    for own, why in (
        (knowledge(encoder="openai"), "before the encoder 'openai' has run"),
        (
            knowledge(encoder="sentence_transformers", sentence__model="all-MiniLM-L6-v2"),
            "before the encoder 'sentence_transformers' has run",
        ),
        (knowledge(encoder="file", item_file="missing.npy"), "'missing.npy', was not found"),
    ):
        found = text_width(own, None)
        assert found.width == 256
        assert "E is not known" in found.doubt and why in found.doubt
        assert "256 is config.knowledge.width" in found.doubt
    shop = {"data.source": "synthetic", "data.synthetic.num_users": 300}
    for method, printed in (("grasp", True), ("plain", False)):
        config = Config().with_fields({**shop, "model.method": method})
        assert ("E is not known" in plan_lines(config, 256, "E is not known")) == printed


@pytest.mark.parametrize("name", ["items.npy", "items.npz", "items.parquet", "items.safetensors"])
def test_a_file_that_a_run_refuses_is_refused(tmp_path: pathlib.Path, name: str) -> None:
    """A plan would say that the encoder has not run, fail with an AttributeError, or take a tensor that no run takes."""
    from safetensors.numpy import save_file

    path = tmp_path / name
    if name.endswith("npz"):
        np.savez(path, np.zeros((3, 9), np.float32))
    else:
        path.write_bytes(b"no array")
    own = knowledge(encoder="file", item_file=str(path))
    assert_names(refusal(text_width, own, None), (str(path), "read", ".npy"))
    if name.endswith("safetensors"):
        for shape, dtype in (((3, 4), np.int32), ((3,), np.float32), ((), np.float32)):
            save_file({"embeddings": np.zeros(shape, dtype)}, path)
            said = (str(shape), np.dtype(dtype).name, "expected a 2-d array of floats")
            assert_names(refusal(text_width, own, None), said)
    plain = Config().with_fields(
        {
            "data.source": "synthetic",
            "data.synthetic.num_users": 300,
            "knowledge.encoder": "file",
            "knowledge.item_file": str(path),
            "model.method": "plain",
        }
    )
    modes.plan(plain, None)  # which reads no text


def test_a_plan_reads_no_bank_of_the_present_folder(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plan of one config would have the width of another run that was made in the folder where it is started."""
    (tmp_path / "knowledge").mkdir()
    np.save(tmp_path / "knowledge" / "items.npy", np.zeros((3, 99), np.float32))
    monkeypatch.chdir(tmp_path)
    shop = {"data.source": "synthetic", "data.synthetic.num_users": 300}
    config = Config().with_fields({**shop, "model.method": "grasp"})
    modes.plan(config, None)
    assert "E=256" in capsys.readouterr().out
    for of_run, workdir in ((config, str(tmp_path)), (config, ".")):
        modes.plan(of_run, workdir)
        assert "E=99" in capsys.readouterr().out
