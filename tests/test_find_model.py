"""Which snapshot of a trial is used if some of them are damaged."""

import pathlib

import pytest

from grasp_jax.core.errors import UserError
from grasp_jax.training import checkpoint

FOLDER = pathlib.Path("trial")
MODEL, EARLIER = {"model": "b6"}, {"model": "b3"}


def stored(monkeypatch: pytest.MonkeyPatch, manifests: dict[str, dict[str, str] | None]) -> None:
    """Snapshots "last/10" and so on, newest first, with their manifests; None: damaged. The newest complete one was of step 10."""
    steps = [(int(name.split("/")[1]), FOLDER / name.split("/")[0]) for name in manifests]

    def verified(path: pathlib.Path) -> dict[str, str]:
        if (found := manifests[path.relative_to(FOLDER).as_posix()]) is None:
            raise UserError(f"{path}: damaged")
        return found

    monkeypatch.setattr(checkpoint, "_steps", lambda folder: iter(steps))
    monkeypatch.setattr(checkpoint, "_without_manifests", lambda folder: False)
    monkeypatch.setattr(checkpoint, "read_sealed", lambda path, remedy: MODEL | {"step": 10})
    monkeypatch.setattr(checkpoint, "verified_manifest", verified)


def test_best_replaces_a_damaged_last_behind_an_older_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two snapshots "last" are kept, so the older one would hide that "best" has the model."""
    stored(monkeypatch, {"last/10": None, "last/9": MODEL, "best/6": MODEL})
    found = checkpoint.find_model(FOLDER)
    assert found is not None and (found.folder.name, found.step) == ("best", 6)


def test_without_best_an_older_last_needs_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older state would be taken for the end of the training without a word, or --allow-older would not use it."""
    stored(monkeypatch, {"last/10": None, "last/9": MODEL, "best/6": None})
    with pytest.raises(UserError, match=r"last/10: damaged; .*best/6: damaged; .*--allow-older"):
        checkpoint.find_model(FOLDER)
    found = checkpoint.find_model(FOLDER, allow_older=True)
    assert found is not None and (found.folder.name, found.step) == ("last", 9)


def test_an_older_model_needs_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worse model would be used without a word."""
    stored(monkeypatch, {"last/10": None, "best/6": None, "last/5": EARLIER})
    with pytest.raises(UserError, match="allow-older"):
        checkpoint.find_model(FOLDER)
    found = checkpoint.find_model(FOLDER, allow_older=True)
    assert found is not None and found.step == 5
