"""Runs the shell commands of README and docs/ as they stand, in one folder and in the order of `PAGES`; sizes alone are made small.

`NOT_RUN` has the commands that are not run here, each with the reason. tests/test_page_code.py does the same for Python.
"""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from tests.command_line import run
from tests.running_service import SECRET
from tests.test_docs import PAGES as ALL
from tests.test_docs import ROOT, blocks, name_of
from tests.test_page_code import shop_of_a_reader
from tests.test_service_page import serving

PAGES = (
    "README.md",
    "docs/start.md",
    "docs/choosing.md",
    "docs/command-line.md",
    "docs/data-formats.md",
    "docs/gpu.md",
    "docs/knowledge.md",
    "docs/scaling.md",
    "docs/tutorials/daily_refresh.md",
    "docs/serving.md",
)
NOT_RUN = {  # a regular expression that a command begins with -> why it is not run
    r"(\.h100/bin/)?(python -m )?pip install|python -m venv|\.h100/|JAX_PLATFORMS=cpu \.h100": "installs packages",
    r"make ": "installs packages; the Makefile's commands are those of other blocks and tests",
    r"docker |kubectl |sbatch |TRAIN=|sed ": "needs Docker or a cluster; tests/test_launch.py runs the scripts against stubs",
    r"grasp-jax fetch [a-z]": "downloads; tests/test_fetch.py has a stand-in server",
    r"grasp-jax convert": "needs data of another project; tests/test_convert.py writes them",
    r"grasp-jax .*--ratings=": "needs the ratings of a person; tests/test_audit_sheet.py fills in a sheet",
    r"grasp-jax .*describer=transformers": "needs a language model of many gigabytes; tests/test_generate.py has a tiny one",
    r"grasp-jax --config=configs/beauty5.py": "needs the data of Amazon Beauty",
    r"PYTHONPATH=\. grasp-jax": "needs the method of that page; tests/test_extending.py runs it",
    r"for s in|python -m grasp_jax.main --config=.configs/sweep": "trains for hours",
    r"python launch/local\.py|python launch/ray_": "needs several machines; tests/test_processes.py and tests/test_ray*.py start them here",
    r"python -m benchmarks\.|launch/gpu_benchmarks": "takes minutes to hours; the tests of benchmarks run each with --quick",
    r"XLA_FLAGS=|python -c .*write_dataset": "compares meshes; tests/test_mesh.py runs the same program",
    r"export ": "sets a key",
    r"grasp-serve model/": "is a process that does not end; tests/test_service*.py start it on small models",
    r"curl localhost:8000/reload -X POST -H 'content-type": "is that of docs/serving.md without its token",
}
COMMAND = re.compile(
    r"(?:[A-Z_]+=(?:\"[^\"]*\"|\S)* )*"  # variables of the environment
    r"(?:grasp-jax|grasp-serve|python|make|pip|curl|docker|kubectl|sbatch|sed|for|export|\.?\w*/\S+)(?: |$)|TOKEN="
)
SMALL = {
    "model.features": "8",
    "model.mlp": "(8,)",
    "model.num_layers": "1",
    "knowledge.width": "8",
    "knowledge.num_neighbours": "3",
    "train.max_epochs": "1",
    "data.max_length": "8",
    "eval.num_negatives": "20",
}
SMALL_SHOP = {"data.synthetic.num_users": "120", "data.synthetic.num_items": "110"}
NAMES = {  # what stands for a name of the reader's own
    r"\bCONFIG\b(?!\.py)": "FOLDER_config.py",
    r"\b(MONDAY|WORKDIR|runs/monday)\b": "runs/FOLDER",
    r"\bTUESDAY\b": "runs/both",
}


def commands_of(page: str) -> list[str]:
    """The commands of a page's blocks, each in one line, without what is optional and without comments."""
    found = []
    for block in blocks((ROOT / page).read_text(encoding="utf-8"), "bash"):
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            line = re.sub(r"\s+#.*$|\s\[--[^]]*\]", "", line.strip())
            if COMMAND.match(line):
                found.append(line)
    return found


def why_not(command: str) -> str:
    """Why a command is not run; empty: it is."""
    return next((why for begin, why in NOT_RUN.items() if re.match(begin, command)), "")


def test_every_command_is_run_or_has_a_reason() -> None:
    """A command would be added that nobody runs, or a reason be kept whose command is gone."""
    every = [command for path in ALL for command in commands_of(name_of(path))]
    for begin in NOT_RUN:
        assert any(re.match(begin, command) for command in every), f"no command begins so: {begin}"
    for path in ALL:
        left = [command for command in commands_of(name_of(path)) if not why_not(command)]
        assert not left or name_of(path) in PAGES, (
            f"{name_of(path)}: {left[0]} is not run by this test"
        )
        for block in re.findall(r"```bash\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
            first = block.strip().splitlines()[0]
            assert COMMAND.match(first), f"{name_of(path)}: {first} is not known as a command"


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A reader's folder: data in FOLDER, the configs of the repository, and the files that commands name."""
    shop_of_a_reader(tmp_path)
    (tmp_path / "folder").rename(tmp_path / "FOLDER")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "DIR").symlink_to("runs/FOLDER")
    (tmp_path / "OTHER").symlink_to("runs/quickstart")
    (tmp_path / "FILE").write_text("ann\nlee\n")
    (tmp_path / "models").mkdir()
    own = tmp_path / "with_vectors"
    shutil.copytree(tmp_path / "FOLDER", own)
    items = (own / "items.csv").read_text().splitlines()[1:]
    rows = [dict(zip(("item", "title", "brand"), line.split(","), strict=True)) for line in items]
    (own / "items.jsonl").write_text(
        "".join(f"{row}\n".replace("'", '"') for row in rows)
    )  # no quotation marks in these titles
    rng = np.random.default_rng(0)
    np.save(own / "items.npy", rng.standard_normal((len(rows), 8)).astype(np.float32))
    people = ["ann", "lee", *(f"u{n}" for n in range(60))]
    (own / "users.txt").write_text("".join(f"{name}\n" for name in people))
    np.save(own / "users.npy", rng.standard_normal((len(people), 8)).astype(np.float32))
    monkeypatch.setenv("GRASP_SERVE_TOKEN", SECRET)
    return tmp_path


@pytest.mark.slow
def test_commands_run(folder: pathlib.Path) -> None:
    """A reader would copy a command that is refused where the page says that it works."""
    curls = []
    for page, command in _in_order():
        if command.startswith(("curl", "TOKEN=")):
            curls.append(command)
        elif not command.startswith("grasp-serve"):
            done = _run(folder, command)
            assert done.returncode == 0, f"{page}: {command}\n{done.stderr[-2000:]}"
    assert (folder / "recommendations.csv").is_file() and (folder / "FILE.parquet").is_file()
    flags = f"--models={folder / 'models'}", f"--data={folder / 'FOLDER'}"
    with serving(folder, *flags, model="models/monday") as address:
        token = next(command for command in curls if command.startswith("TOKEN="))
        said = [_curl(folder, token, command, address) for command in curls if command != token]
    assert all('"error"' not in answer for answer in said) and len(said) == 4
    assert '"added":1' in said[1] and '"model":2' in said[3]


def _in_order() -> Iterator[tuple[str, str]]:
    """Pages and commands, each command once, for two pages may have the same."""
    seen = set()
    for page in PAGES:
        for command in commands_of(page):
            if command not in seen and not why_not(command):
                seen.add(command)
                yield page, command


def _run(folder: pathlib.Path, command: str) -> subprocess.CompletedProcess[str]:
    for name, own in NAMES.items():
        command = re.sub(name, own, command)
    program, *words = shlex.split(command)
    if "--dry-run" in words:  # a workdir belongs to one config
        config = pathlib.Path(words[0].removeprefix("--config=")).stem
        words = [word.replace("=DIR", f"=runs/dry-{config}") for word in words]
    if "--config.knowledge.encoder=file" in words:
        words = [word.replace("=FOLDER", "=with_vectors") for word in words]
    if any(word.startswith("--config=") for word in words) and "--mode=plan" not in words:
        made = "--config=configs/quickstart.py" in words and "config.data.path" not in command
        sizes = SMALL | (SMALL_SHOP if made else {})
        words += [f"--config.{field}={value}" for field, value in sizes.items()]
    there = f"import os; os.chdir({str(folder)!r})"
    if program == "python":
        assert words[0] == "-c", command
        return run([sys.executable, "-c", f"{there}; exec({words[1]!r})"])
    assert program == "grasp-jax", command
    start = "from grasp_jax.main import run; run()"  # as the program grasp-jax
    return run([sys.executable, "-c", f"{there}; {start}", *words])


def _curl(folder: pathlib.Path, token: str, command: str, address: str) -> str:
    """What the service answers. The first request of docs/serving.md stands where no token is spoken of yet."""
    if "$TOKEN" not in command:
        command += ' -H "$TOKEN"'
    here = command.replace("localhost:8000/", address)
    done = subprocess.run(
        ["bash", "-c", f"{token}\n{here} --silent"],
        cwd=folder,
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout
