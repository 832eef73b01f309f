"""README and docs/: code that runs, flags and fields that exist, links and anchors that lead somewhere."""

import pathlib
import re
import shlex
import sys
import unicodedata

import pytest
from absl import flags

import grasp_jax as gj
from benchmarks import tutorial_pages
from grasp_jax import command
from grasp_jax.config import FIELDS
from grasp_jax.serving.http.cli import parser
from grasp_jax.setup.fetch import command as fetch
from tests.chat_server import ChatServer, running
from tests.command_line import run
from tests.trained import at_small_size

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
WITH_CODE = [path for path in PAGES if path.name != "errors.md"]
GENERATED = {"config.md", "errors.md", "results.md", "performance-tables.md"}
RUN_ELSEWHERE = {  # the test that runs the Python of a page
    "extending.md": "test_extending.py",
    "export.md": "test_export.py",
    "first_steps.md": "test_front_door.py",
}
PROGRAMS = {"grasp-jax", "grasp-serve", "python", "make", "pip"}


def name_of(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(text: str, *languages: str) -> list[str]:
    """The fenced blocks of these languages; of "bash" also what is indented by four spaces and begins like a command."""
    found = re.findall(rf"```(?:{'|'.join(languages)})\n(.*?)```", text, re.DOTALL)
    if "bash" in languages:
        plain = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        found += re.findall(r"(?:^    \S.*\n(?:    .*\n)*)", plain, re.MULTILINE)
    return found


def anchor(heading: str) -> str:
    """The anchor of a heading, as both GitHub and the site make it."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", text).strip().lower())


def anchors(path: pathlib.Path) -> set[str]:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return {anchor(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_somewhere(path: pathlib.Path) -> None:
    """A reader would follow a link to a page, a figure or a section that is not there."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, section = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.is_file(), f"{name_of(path)}: {target} does not exist"
        if section:
            assert section in anchors(found), f"{name_of(path)}: {target} has no such section"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_named_files_exist(path: pathlib.Path) -> None:
    """A page would name a file of the repository that has another name now."""
    text = path.read_text(encoding="utf-8")
    for named in re.findall(
        r"`((?:docs|configs|benchmarks|launch|tests|grasp_jax)/[\w./-]+\.(?:md|py|json|sh|yaml))`",
        text,
    ):
        there = (ROOT / named).exists() or "NAME" in named
        assert there, f"{name_of(path)}: {named} does not exist"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_lines_are_short(path: pathlib.Path) -> None:
    """Pages are read as Markdown too; generated lines and tables are left out."""
    if path.name in GENERATED:
        return
    code = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        code ^= line.lstrip().startswith("```")
        if not code and not line.startswith(("|", "<!--")):
            assert len(line) <= 140, f"{name_of(path)}:{number} has {len(line)} letters"


def commands(text: str) -> list[list[str]]:
    """The commands of a page that call this package, as words."""
    found = []
    for block in blocks(text, "bash", "console"):
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            line = re.sub(r"^\s*(?:export\s+|sudo\s+|\w+=\S+\s+)*", "", line.strip())
            if line.split(" ")[0] in PROGRAMS:
                found.append(shlex.split(re.sub(r"\[[^]]*\]", "", line), comments=True))
    return found


def check_flags(words: list[str]) -> None:
    """Every flag is one of the command line's, and every field one of the config's."""
    for word in words:
        if not word.startswith("--"):
            continue
        name = word[2:].partition("=")[0]
        if name.startswith("config."):
            assert name.removeprefix("config.") in FIELDS, f"{word}: no such field"
        elif name not in ("version", "help"):
            assert name in flags.FLAGS, f"{word}: no such flag"
        if name == "mode":
            allowed = flags.FLAGS["mode"].parser.enum_values  # type: ignore[attr-defined]
            assert word.partition("=")[2] in allowed, f"{word}: no such mode"
        config = re.fullmatch(r"--config=(configs/\w+\.py)(?::.*)?", word)
        assert config is None or (ROOT / config[1]).is_file() or "NAME" in word, (
            f"{word}: no such config"
        )


@pytest.mark.parametrize("path", WITH_CODE, ids=name_of)
def test_commands_can_be_typed(path: pathlib.Path) -> None:
    """A command that a reader copies would be refused: an unknown flag, field, mode, config, make target or extra."""
    assert command.FLAGS is flags.FLAGS
    targets = set(re.findall(r"^([a-z%-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    extras = (ROOT / "pyproject.toml").read_text()
    for words in commands(path.read_text(encoding="utf-8")):
        if words[:2] == ["grasp-jax", "fetch"]:
            if words[2] != "--list":  # which prints all names and ends
                name = fetch.parser().parse_args(words[2:]).name
                assert name == "NAME" or fetch.dataset_named(name), words
        elif words[0] == "grasp-jax" or words[:3] == ["python", "-m", "grasp_jax.main"]:
            check_flags(words)
        elif words[0] == "grasp-serve":
            known = {flag for action in parser()._actions for flag in action.option_strings}
            assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known
        elif words[0] == "make":
            names = [word for word in words[1:] if word.isidentifier() or "-" in word]
            assert all(name in targets or name.startswith("rival-") for name in names), words
        elif words[0] == "python" and "-m" in words:
            module = words[words.index("-m") + 1].replace(".", "/")
            there = (ROOT / f"{module}.py").exists() or (ROOT / module).is_dir()
            assert there or module in ("venv", "pip", "pytest", "ruff", "mypy"), words
    for names in re.findall(r"pip install (?:-e )?'\.\[([\w,]+)\]'", path.read_text()):
        for extra in names.split(","):
            assert re.search(rf"^{extra} = \[", extras, re.MULTILINE), f"{extra}: no such extra"


@pytest.mark.parametrize("path", WITH_CODE, ids=name_of)
def test_python_can_be_run(path: pathlib.Path) -> None:
    """Code that a reader copies would not compile, or call what does not exist; pages with a test of their own are run there."""
    for code in blocks(path.read_text(encoding="utf-8"), "python"):
        compile(code, str(path), "exec", dont_inherit=True)
    if path.name in RUN_ELSEWHERE:
        assert (ROOT / "tests" / RUN_ELSEWHERE[path.name]).is_file()


@pytest.mark.parametrize("name", tutorial_pages.TUTORIALS)
def test_tutorial_page_is_its_script(name: str) -> None:
    """The page would show other code than the script that the tests run."""
    script = tutorial_pages.EXAMPLES / f"{name}.py"
    pieces = [cell for cell in tutorial_pages.cells(script.read_text()) if cell.is_code]
    text = (tutorial_pages.PAGES / f"{name}.md").read_text(encoding="utf-8")
    remedy = f"run python -m benchmarks.tutorial_pages {name}"
    expected = tutorial_pages.page(script, [""] * len(pieces))
    assert tutorial_pages.without_output(text) == expected, remedy
    assert tutorial_pages.PRINTED in text, remedy


SLOW = (
    "compare_methods",  # nine models
    "daily_refresh",  # two days
    "describe_items",  # three models
    "genres",  # own_csv with another column
)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name in tutorial_pages.TUTORIALS
        if name != "first_steps"  # test_front_door.py runs that one
    ],
)
def test_tutorial_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tutorial would fail for its reader."""
    at_small_size(monkeypatch)
    with running(ChatServer()) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        printed = tutorial_pages.run(tutorial_pages.EXAMPLES / f"{name}.py")
        assert (server.requests > 0) == (name == tutorial_pages.ASKS_A_MODEL)
    assert "".join(printed).strip()


@pytest.mark.parametrize("module", ["grasp_jax.main", "grasp_jax.serving.http.cli"])
def test_commands_say_their_version(module: str) -> None:
    """A bug report could not say which version it is about."""
    done = run([sys.executable, "-m", module, "--version"])
    assert done.returncode == 0 and done.stdout.strip().endswith(f" {gj.__version__}")
    assert f"version: {gj.__version__}" in (ROOT / "CITATION.cff").read_text()
    assert f"Version {gj.__version__};" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"## [{gj.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_readme_is_short() -> None:
    """A stranger would scroll past the reason to care."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert next(n for n, line in enumerate(lines) if "recommendation.svg" in line) < 12


def test_every_page_is_in_the_navigation() -> None:
    """A page of the site would be found by nobody, or the navigation name one that is gone."""
    listed = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text()))
    there = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert listed == there


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_no_line_becomes_a_list_by_accident(path: pathlib.Path) -> None:
    """A sentence that is wrapped before "2. " or "- " would be shown as a new point of a list."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    before = ""
    for line in text.splitlines():
        number = re.match(r"\s*(\d+)\. ", line)
        if number and before.strip() and not re.match(r"\s*(\d+\.|\||#)", before):
            follows = re.match(r"\s{2,}\S", before) and not line.startswith("  ")
            assert follows, f"{name_of(path)}: {line[:60]}"
        before = line


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_no_point_of_a_list_stands_within_a_line(path: pathlib.Path) -> None:
    """A tool that wraps lines would join the points of a list to one paragraph, with "* " in the middle of its lines."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    joined = re.search(r"^(?!\|).*[.:;)] (?:[*-]|\d+\.) [A-Z`*].*$", text, re.MULTILINE)
    assert joined is None, f"{name_of(path)}: {joined[0][:80]}"
