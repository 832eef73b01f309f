"""The rehearsal: data that a kill does not change, stages that are killed and repeated, and the extrapolation from two sizes."""

import json
import pathlib
import sys
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from benchmarks import rehearsal, rehearsal_table
from benchmarks.record import Contention
from benchmarks.rehearsal_data import Sizes, item_ids, user_ids, write_shop
from configs.industry import get_config
from grasp_jax.config import Config, resolve_source
from grasp_jax.core.errors import UserError
from grasp_jax.data.dataset import Dataset

SIZES = Sizes(2000)


def test_the_shop_is_the_same_after_a_kill(tmp_path: pathlib.Path) -> None:
    """Whoever is killed while it writes would go on with another log than the one that was begun."""
    write_shop(tmp_path / "whole", SIZES)
    write_shop(tmp_path / "killed", SIZES)
    first = tmp_path / "killed" / "interactions.parquet" / "part-00000.parquet"
    first.unlink()
    write_shop(tmp_path / "killed", SIZES)
    both = [tmp_path / name / "interactions.parquet" for name in ("whole", "killed")]
    tables = [pyarrow.parquet.read_table(folder) for folder in both]
    assert tables[0].equals(tables[1])
    shop = Dataset.read(str(tmp_path / "whole"))
    assert shop.log.num_users == SIZES.users and shop.log.num_items == SIZES.items
    assert shop.log.lengths.min() >= 3
    assert shop.texts.users is not None and len(set(shop.texts.users.columns["segment"])) == 2


def test_ids_are_distinct() -> None:
    """Two users or items would be one, and the counts of the record be wrong."""
    for ids_of, all_rows in ((user_ids, 10_000_000), (item_ids, 1_205_282)):
        rows = np.linspace(0, all_rows - 1, 50_000).astype(int)
        assert len(set(ids_of(rows).tolist())) == 50_000


def a_stage(monkeypatch: pytest.MonkeyPatch, *texts: str) -> None:
    """Every stage runs this Python; of several its first process the first, and so on."""
    left = [*texts]

    def command_of(stage: str, folder: pathlib.Path, sizes: Sizes) -> list[str]:
        return [sys.executable, "-c", left.pop(0) if len(left) > 1 else left[0]]

    monkeypatch.setattr(rehearsal, "command_of", command_of)


def test_a_stage_is_killed_and_done_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill would count as the stage's end, or a stage that fails as done."""
    a_stage(monkeypatch, "import time; time.sleep(600)", "pass")
    cost, late = rehearsal._run_stage("read", tmp_path, SIZES, [0.2])
    assert cost.killed == 1 and not late and cost.peak_bytes > 0
    assert 0.2 < cost.wall_seconds < 300  # with the time before the kill
    _, late = rehearsal._run_stage("read", tmp_path, SIZES, [600.0])
    assert late == [600.0]
    a_stage(monkeypatch, "print('no room'); raise SystemExit(2)")
    with pytest.raises(UserError, match=r"read: ended with status 2; .* ends with: no room"):
        rehearsal._run_stage("read", tmp_path, SIZES, [])


def test_a_folder_is_of_one_size(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages of two sizes would be mixed; or what is done be done again."""
    a_stage(monkeypatch, "pass")
    for name in ("read.json", rehearsal.FOUND):
        (tmp_path / name).write_text("{}")
    done = rehearsal.rehearse(tmp_path, SIZES)
    a_stage(monkeypatch, "raise SystemExit(1)")
    assert rehearsal.rehearse(tmp_path, SIZES) == done
    with pytest.raises(UserError, match="a rehearsal of 2,000 users; expected 3,000"):
        rehearsal.rehearse(tmp_path, Sizes(3000))


def test_a_killed_run_must_end_as_the_recorded_one(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that ends with other answers would be recorded as equal; or the run of another size be compared."""
    a_stage(monkeypatch, "pass")
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "read.json").write_text("{}")
    (tmp_path / "killed" / rehearsal.FOUND).write_text('{"answers": "same"}')
    stages = {name: {"wall_seconds": 1e-6} for name in rehearsal_table.STAGES}
    whole = {"users": SIZES.users, "stages": stages, "fingerprint": {"answers": "same"}}
    record = tmp_path / "record.json"
    record.write_text(json.dumps({"runs": [whole]}))
    assert rehearsal.recorded(record, SIZES) == whole
    with pytest.raises(UserError, match="expected a record with a run of 3,000 users"):
        rehearsal.recorded(record, Sizes(3000))
    assert rehearsal.rehearse_killed(whole, tmp_path, SIZES, 1, 0)["users"] == SIZES.users
    with pytest.raises(UserError, match="ended with another answers"):
        rehearsal.rehearse_killed(
            {**whole, "fingerprint": {"answers": "other"}}, tmp_path, SIZES, 1, 0
        )


def test_moments_are_drawn_from_all_the_time() -> None:
    """Kills would fall into one stage, or beyond its end."""
    took = {name: {"wall_seconds": 1.0 + 9 * (name == "train")} for name in rehearsal_table.STAGES}
    kills = rehearsal.kills_at_random(took, 400, 0)
    assert sum(map(len, kills.values())) == 400 and kills.keys() == rehearsal_table.STAGES.keys()
    assert all(0 <= t <= took[name]["wall_seconds"] for name, own in kills.items() for t in own)
    assert len(kills["train"]) > 150


def test_two_sizes_are_carried_over() -> None:
    """Answers, which grow with users x items, would be on a straight line; or an estimate would stand next to a measured run."""
    runs = [
        {
            "users": users,
            "stages": {
                name: {
                    "cpu_seconds": 2 + 1e-5 * users + 1e-12 * users**2 * (name == "answer"),
                    "wall_seconds": 1 + 1e-5 * users,
                    "peak_bytes": 100 + users,
                }
                for name in rehearsal_table.STAGES
            },
        }
        for users in (100_000, 1_000_000)
    ]
    assert rehearsal_table.carried_over("read", runs) == pytest.approx((102, 100 + 10**7))
    assert rehearsal_table.carried_over("answer", runs) == pytest.approx((202, 100 + 10**7))
    header, body = rehearsal_table.show(runs)
    assert all(len(line) == len(header) for line in body) and "extrapolated" in " ".join(header)
    measured = {"users": 10**7, "stages": runs[1]["stages"]}
    header, body = rehearsal_table.show([*runs, measured])
    assert all(len(line) == len(header) for line in body) and "extrapolated" not in " ".join(header)


def test_an_undisturbed_run_keeps_the_killed_run_of_the_record(tmp_path: pathlib.Path) -> None:
    """The evidence that kills change nothing would be lost with the next run; or a run that ended differently pass for evidence."""
    record, same = tmp_path / "record.json", {"all": "a"}
    earlier = {
        "users": 2000,
        "fingerprint": same,
        "stages": {},
        "commit": "abc",
        "killed": {"read": 1},
    }
    record.write_text(json.dumps({"runs": [earlier]}))
    own: dict[str, Any] = {"users": 2000, "fingerprint": same, "stages": {}}
    (found,) = rehearsal.keep(record, own, Contention())["runs"]
    assert found["killed_run"] == {"commit": "abc", "stages": {}, "killed": {"read": 1}}
    assert found["machine"]["cores"] and "commit" not in found["machine"]
    record.write_text(json.dumps({"runs": [earlier | {"fingerprint": {"all": "b"}}]}))
    (found,) = rehearsal.keep(record, {**own, "killed": {}}, Contention())["runs"]
    assert "killed_run" not in found


def test_the_page_says_what_a_killed_run_was_compared_with() -> None:
    """A reader would take the costs of a killed run for undisturbed ones, or not know which run it equals."""
    cost = {"cpu_seconds": 1.0, "wall_seconds": 60.0, "peak_bytes": 1}
    stages = dict.fromkeys(rehearsal_table.STAGES, cost)
    read = {"items": 20, "interactions": 300}
    about = {"cpu": "a CPU", "cores": 2, "device": "cpu", "versions": {"jax": "1"}}
    place = {"machine": about, "commit": "def", "cores_used_by_others": 0.0}
    own = {**place, "users": 10**7, "stages": stages, "read": read, "killed": {"answer": 2}}
    page = rehearsal_table.markdown({"runs": [own]})
    assert "was killed 2 times at random moments and had the same results." in " ".join(
        page.split()
    )
    own["undisturbed"] = {"commit": "abc", "stages": stages}
    assert "an undisturbed run of commit abc, which took 7 minutes" in " ".join(
        rehearsal_table.markdown({"runs": [own]}).split()
    )
    undisturbed = {**place, "users": 10**7, "stages": stages, "read": read}
    commit = "abcdef0" + 33 * "1"
    undisturbed["killed_run"] = {"commit": commit, "stages": stages, "killed": {"answer": 2}}
    assert "of commit abcdef0, which took 7 minutes, was killed 2 times" in " ".join(
        rehearsal_table.markdown({"runs": [undisturbed]}).split()
    )


def test_runs_of_other_machines_are_labelled() -> None:
    """A reader's run would stand next to ours as if it were of the same machine, or ours get the commit and the load of the reader's."""
    cost = {"cpu_seconds": 1.0, "wall_seconds": 60.0, "peak_bytes": 1}
    stages = dict.fromkeys(rehearsal_table.STAGES, cost)
    about = {"cpu": "a CPU", "cores": 2, "device": "cpu", "versions": {"jax": "1"}}
    first = {"users": 10**7, "stages": stages, "machine": about, "commit": "0a6c89d or earlier"}
    first["cores_used_by_others"] = 1.6
    second = {**first, "users": 2 * 10**7, "machine": {**about, "cpu": "another"}, "commit": None}
    header, _ = rehearsal_table.show([first, second])
    assert header[1].startswith("10,000,000 users (machine 1)")
    assert header[4].startswith("20,000,000 users (machine 2)")
    ours, other = rehearsal_table.measured_on([first, second])
    assert "2 cores of a CPU" in ours and "commit 0a6c89d or earlier, 1.6 cores" in ours
    assert "2 cores of another" in other and "commit unknown" in other
    assert rehearsal_table.show([first])[0][1].startswith("10,000,000 users:")
    (unknown,) = rehearsal_table.measured_on([{"users": 2000, "stages": stages}])
    assert "an unknown machine" in unknown and "unknown cores" in unknown


def test_the_variant_reads_what_is_written() -> None:
    """The config would ask for tables or groups that the shop does not have."""
    config = Config.from_dict(get_config("rehearsal").to_dict())
    of_files = resolve_source(config.with_fields({"data.path": "shop"}))
    groups = of_files.knowledge.group_column, of_files.knowledge.user_group_column
    assert groups == ("category", "segment") and of_files.train.epoch_steps == 200
    shop = resolve_source(config)  # what --mode=plan counts
    assert shop.data.source == "synthetic" and not shop.knowledge.user_group_column
    with pytest.raises(UserError, match="expected 100k, 10m or rehearsal"):
        get_config("1m")
