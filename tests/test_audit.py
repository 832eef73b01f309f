"""The audit from the command line: it sends no request, its page needs no other file, and a filled sheet gives rates."""

import csv
import json
import pathlib
import re

import numpy as np
import pytest

from configs import quickstart
from grasp_jax.config import Config, KnowledgeConfig
from grasp_jax.data.attributes import AttributeTable, SourceTexts
from grasp_jax.data.log import InteractionLog
from grasp_jax.data.split import leave_one_out
from grasp_jax.knowledge.audit.ratings import Rating, rated_groups
from grasp_jax.knowledge.audit.subjects import check_same_texts
from grasp_jax.knowledge.bank import KnowledgeBank
from grasp_jax.knowledge.refresh import text_hashes
from grasp_jax.knowledge.texts import require_answers
from grasp_jax.modes import Options, audit
from grasp_jax.trials.run import open_run, prepare
from tests.chat_server import ChatServer, running
from tests.command_line import write_dataset
from tests.refusal import assert_names, refusal
from tests.test_describe import ITEMS, USERS, command, shop, succeeds

__all__ = ["shop"]  # the fixture


def test_audit_of_descriptions(shop: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """A number of the page would not be the bank's, an endpoint be asked, or a rater's work be lost."""
    with running(ChatServer({"na": 5, "refused": 7})) as server:
        url = server.url
        succeeds(command(shop, tmp_path, url, "--mode=prepare"))
    audited = command(
        shop, tmp_path, url, "--mode=audit", "--config.knowledge.audit.category_column=brand"
    )  # and nobody answers at url
    said = succeeds(audited)
    out = tmp_path / "run" / "audit"
    assert f"open {out / 'index.html'}" in said
    found = json.loads((out / "audit.json").read_text())
    statuses = {
        kind: np.load(tmp_path / "run" / "knowledge" / f"{kind}_status.npy")
        for kind in ("items", "users")
    }
    for kind, rows in (("items", ITEMS), ("users", USERS)):
        groups = found["texts"][kind]
        assert sum(group["rows"] for group in groups) == rows
        for name, status in (("na", 1), ("refused", 2)):
            said_so = sum(group["rows"] * group[name] for group in groups)
            assert said_so == pytest.approx((statuses[kind] == status).sum()) and said_so > 0
        # The server repeats the prompt and adds a number of its own.
        assert all(
            group["kept"] == 1.0 and group["with_unsupported"] > 0.5
            for group in groups
            if group["compared"] > 9
        )
    assert found["vectors"]["items"]["agreement"]["column"] == "brand"
    page = (out / "index.html").read_text()
    assert "<script" not in page
    assert re.findall(r"""(?:src|href)=["'](?!\#)([^"']*)""", page) == ["data:,"], "loads something"
    assert page.index("Findings") < page.index("What descriptions of users keep"), "findings first"
    for part in (
        "What descriptions of users keep and claim",
        "Descriptions with an unsupported claim",
        "brand in common",
        "Cosines",
    ):
        assert part in page, part
    assert (
        "| random pairs, before centring |" in (out / "AUDIT.md").read_text()
        and (out / "figures" / "cosines.svg").is_file()
    )

    sheet = out / "sheet.csv"
    header, *lines = csv.reader(sheet.read_text(encoding="utf-8-sig").splitlines())
    lines = [[*line[:-1], str(k % 3)] for k, line in enumerate(lines)]
    with sheet.open("w", newline="") as file:
        csv.writer(file).writerows([header, *lines])
    filled = sheet.read_bytes()
    succeeds([*audited, f"--ratings={sheet}"])
    assert sheet.read_bytes() == filled
    rated = json.loads((out / "audit.json").read_text())["rated"]
    expected = rated_groups(
        [Rating(line[0], line[2], int(line[5])) for line in lines],
        list(dict.fromkeys(line[2] for line in lines)),
    )
    assert {(own["kind"], own["group"]): own["hallucinated"] for own in rated} == {
        (e.kind, e.group): e.hallucinated for e in expected
    }
    assert "Hallucination as people judge it" in (out / "index.html").read_text()


def test_audit_of_vectors_from_files(tmp_path: pathlib.Path) -> None:
    """Without texts there would be no audit at all; without a bank it would prepare one, and perhaps pay for it."""
    knowledge = {
        "encoder": "file",
        "item_file": "items.npy",
        "user_file": "users.npy",
        "num_neighbours": 3,
    }
    config = Config().with_fields(
        {"data.path": str(write_dataset(tmp_path / "data")), "knowledge": knowledge}
    )
    run = open_run(config, tmp_path / "run")
    options = Options(out=str(tmp_path / "page"))
    message = refusal(audit, run, options)
    assert_names(
        message,
        (
            str(tmp_path / "run" / "knowledge"),
            "no knowledge bank to audit",
            "run --mode=prepare first",
        ),
    )
    assert not (tmp_path / "run").exists()
    assert prepare(run).bank is not None
    audit(run, options)
    text = (tmp_path / "page" / "AUDIT.md").read_text()
    assert (
        "The vectors came from files" in text
        and "does not say whether neighbours share a category" in text
        and not (tmp_path / "page" / "sheet.csv").exists()
    )
    found = json.loads((tmp_path / "page" / "audit.json").read_text())
    assert found["texts"] == {} and found["vectors"]["items"]["norms"]["mean"] == pytest.approx(1.0)
    options = Options(out=str(tmp_path / "data" / "inter.txt"))
    assert f"--out: {options.out} is a file" in refusal(audit, run, options)


def test_wrong_descriptions_are_found(tmp_path: pathlib.Path) -> None:
    """The description of another user would look as well supported as the right one, or a new sheet would overwrite a filled one."""
    config = Config.from_dict(quickstart.get_config().to_dict())
    config = config.with_fields(
        {"data.synthetic": {"num_users": 70, "num_items": 130}, "knowledge.width": 16}
    )
    rates, out = {}, tmp_path / "0.0" / "audit"
    for share in (0.0, 0.5):
        config = config.with_fields({"data.synthetic.corrupted_share": share})
        run = open_run(config, tmp_path / str(share))
        assert prepare(run).bank is not None
        audit(run, Options())
        users = json.loads((run.workdir / "audit" / "audit.json").read_text())["texts"]["users"]
        assert sum(group["compared"] for group in users) == 70
        rates[share] = sum(group["with_unsupported"] * group["compared"] for group in users) / 70
    assert rates[0.0] == 0.0 and 0.45 < rates[0.5] <= 0.5
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    config = config.with_fields({"data.synthetic.corrupted_share": 0.0})
    audit(open_run(config, tmp_path / "0.0"), Options())
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == before, (
        "the same again, to the last byte"
    )
    config = config.with_fields({"knowledge.audit.sheet_rows": 5})
    message = refusal(audit, open_run(config, tmp_path / "0.0"), Options())
    assert message.startswith(f"{out / 'sheet.csv'}: this sheet may have been filled in")
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == before, "nothing is touched"


def test_a_lost_cache_is_refused(small_log: InteractionLog, tmp_path: pathlib.Path) -> None:
    """The audit would send prompts to the endpoint again, or measure other descriptions than those that the bank was made from."""
    config = KnowledgeConfig().with_fields(
        {
            "describer": "openai",
            "describe.cache": str(tmp_path / "answers"),
            "item_template": "titled_item",
        }
    )
    titles = SourceTexts(
        AttributeTable(
            small_log.item_ids, {"title": [f"Soap {k}" for k in range(small_log.num_items)]}
        )
    )
    message = refusal(require_answers, config, leave_one_out(small_log, 50), titles)
    assert_names(
        message, (str(tmp_path / "answers"), "prompts of items", "run --mode=prepare first")
    )
    config = config.with_fields({"describer": "template"})
    require_answers(config, leave_one_out(small_log, 50), titles)
    bank = KnowledgeBank(*[np.zeros((2, 1))] * 4, {}, {"items_texts": text_hashes(["a", "b"])})
    check_same_texts(bank, "items", ["a", "b"])
    check_same_texts(bank, "users", ["a", "b"])
    assert_names(
        refusal(check_same_texts, bank, "items", ["a", "c"]),
        ("1 of 2 descriptions of items", "remove the bank"),
    )
