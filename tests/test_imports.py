"""The layers of the package: each imports only from layers before it."""

import ast
import pathlib
from collections.abc import Iterator, Sequence

import grasp_jax

PACKAGE = pathlib.Path(grasp_jax.__file__).parent
ROOMS = (  # what stands later may import what stands earlier
    ("core",),
    ("config",),
    ("config_file", "earlier_version", "provenance"),
    ("kernels", "parallel"),
    ("data",),
    ("knowledge",),
    ("setup",),  # reads data and texts as a run will, to write a config
    ("models",),
    ("config_checks", "workdir"),
    ("evaluation",),
    ("training",),
    ("planning", "serving", "report"),
    ("knowledge.audit",),  # a report on texts
    ("trials",),
    ("fitting",),
    ("answering", "arguments"),
    ("modes", "api"),
    ("command", "comparison"),
    ("ray_command",),  # for launch/
    ("main", "__init__"),
    ("serving.http",),  # opens workdirs as the front door does, and ends as the program does
)
RANK = {name: rank for rank, room in enumerate(ROOMS) for name in room}


def room_of(parts: Sequence[str]) -> str:
    """The room of a module, given by its name within the package."""
    return ".".join(parts[:2]) if ".".join(parts[:2]) in RANK else parts[0]


def imported(path: pathlib.Path) -> Iterator[str]:
    """Names of the rooms that a file imports from, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.split(".")[0] == "grasp_jax"
        ):
            parts = node.module.split(".")[1:]
            yield from (
                [room_of(parts)]
                if parts
                else (room_of([alias.name]) for alias in node.names if alias.name in RANK)
            )


def test_imports_run_one_way() -> None:
    """A change of serving would break training, and no part could be read, or used, without all others."""
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        room = room_of(path.relative_to(PACKAGE).with_suffix("").parts)
        wrong += [
            f"{name} imports {other}"
            for other in imported(path)
            if other != room and RANK[other] >= RANK[room]
        ]
    assert wrong == []


def test_every_file_has_a_place() -> None:
    """A new file at the top would be in no room, and nothing would say what it may import."""
    top = {
        path.stem if path.suffix else path.name
        for path in PACKAGE.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert top == {room for room in RANK if "." not in room}
