"""Collects every error message of the program from the source and writes docs/errors.md.

    python -m tests.faults.messages [--check]

Values that a message contains are shown as names in braces. `--check` writes nothing, and exits with 1 if the page is not up to date.
"""

import argparse
import ast
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "errors.md"
MARK = "<!-- messages -->"
RAISED = {
    "UserError": 0,
    "NoValue": 0,
    "BadRows": 0,
    "TrainingDiverged": 0,
    "DataChanged": 0,
    "EndpointError": 0,
    "Refused": 1,
}  # and which argument is the message
BODIES = "serving/http/requests.py"  # whose ValueErrors and table of pydantic's errors end in an answer too
OF_PYDANTIC = "_MESSAGES"
FILLED_IN = r"^HTTP [^:]*:|\{[^{}]*\}"
EMPTY = f"# Errors\n\nWhat the program says when it refuses; each is one line that begins with `error: `.\n\n{MARK}\n"


def template(node: ast.expr, known: dict[str, ast.expr]) -> str:
    """The text of a message, with `{name}` for what is filled in.

    Args:
      node: the argument of the exception.
      known: name -> what the module or function sets it to, where it does so once.
    """
    match node:
        case ast.Constant(value=str() | int() | float() as text):
            return str(text)
        case ast.JoinedStr(values=parts):
            return "".join(template(part, known) for part in parts)
        case ast.FormattedValue(value=ast.Name(id=name)) if isinstance(
            known.get(name), ast.Constant | ast.JoinedStr
        ):
            return template(known[name], {})
        case ast.FormattedValue(value=value):
            return "{" + _named(value) + "}"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return template(left, known) + template(right, known)
        case ast.IfExp(body=first, orelse=second):
            return "{" + f"{template(first, known)} | {template(second, known)}" + "}"
        case ast.Name(id=name) if name in known:
            return template(known[name], {})
        case ast.Call(func=ast.Name(id=name)) if name in known:
            return template(known[name], known)
        case _:
            return "{" + _named(node) + "}"


def _named(node: ast.expr) -> str:
    """A short name of what is filled in."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(slice=ast.Constant(value=str(key))):
            return key
        case ast.Subscript(value=value) | ast.Starred(value=value):
            return _named(value)
        case ast.Call(
            func=ast.Name(id="repr" | "str" | "min" | "max" | "sorted"), args=[first, *_]
        ):
            return _named(first)
        case ast.Call(func=ast.Attribute(attr="join"), args=[listed]):
            return _named(listed)
        case ast.Call(func=ast.Name(id="len"), args=[first]):
            return f"number of {_named(first)}"
        case ast.Call(func=function):
            return _named(function)
        case ast.BinOp(left=left) if not isinstance(left, ast.Constant):
            return _named(left)
        case _:
            return "..."


def messages(path: pathlib.Path) -> list[str]:
    """Templates of a file's refusals in the order of its lines, each once."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    known = _imported(tree) | _set_once(tree)
    of_bodies = path.as_posix().endswith(BODIES)
    found = []
    for call in sorted(_calls(tree), key=lambda call: call.lineno):
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        place = RAISED.get(name, 0 if name == "ValueError" and of_bodies else None)
        if place is None or len(call.args) <= place:
            continue
        text = template(call.args[place], known)
        status = template(call.args[0], known) if name == "Refused" else "422: {field}"
        answered = name == "Refused" or of_bodies
        found.append(f"HTTP {status}: {text}" if answered else text)
    if of_bodies:
        found += [f"HTTP 422: {{field}}: {{value}}; {said}" for said in _of_pydantic(tree)]
    return list(dict.fromkeys(" ".join(text.split()) for text in found))


def _calls(tree: ast.Module) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def _of_pydantic(tree: ast.Module) -> list[str]:
    """What a body is refused with whose fields have the wrong types or sizes."""
    tables = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Dict)
        and [target.id for target in node.targets if isinstance(target, ast.Name)] == [OF_PYDANTIC]
    ]
    return [template(said, {}) for table in tables for said in table.values]


def _imported(tree: ast.Module) -> dict[str, ast.expr]:
    """The constants that a module imports from others of the program, as they set them."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("grasp_jax."):
            path = ROOT / f"{str(node.module).replace('.', '/')}.py"
            names = [alias.name for alias in node.names if alias.name.isupper()]
            if names and path.is_file():
                known = _set_once(ast.parse(path.read_text(encoding="utf-8")))
                found |= {name: known[name] for name in names if name in known}
    return found


def _set_once(tree: ast.Module) -> dict[str, ast.expr]:
    """Names that are set once to a text, and functions that do nothing but return one."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ):
                found.setdefault(name, []).append(value)
            case ast.FunctionDef(name=name, body=[*_, ast.Return(value=ast.expr() as value)]) if (
                len(node.body) <= 2
            ):
                found.setdefault(name, []).append(value)
    once = {name: values[0] for name, values in found.items() if len(values) == 1}
    return {
        name: value
        for name, value in once.items()
        if isinstance(value, ast.JoinedStr)
        or (isinstance(value, ast.Constant) and (isinstance(value.value, str) or name.isupper()))
    }


def section() -> str:
    """What stands below the mark."""
    parts = []
    for path in sorted((ROOT / "grasp_jax").rglob("*.py")):
        if found := [
            text for text in messages(path) if re.search(r"\w", re.sub(FILLED_IN, "", text))
        ]:  # else a message made elsewhere
            rows = [
                f"| `{text.replace('|', chr(92) + '|').replace('`', chr(39))}` |" for text in found
            ]
            parts.append(
                "\n".join([f"### {path.relative_to(ROOT)}", "", "| message |", "|---|", *rows])
            )
    return f"{MARK}\n\n" + "\n\n".join(parts) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.messages")
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; exit 1 where the page is not up to date",
    )
    check = parser.parse_args().check
    before = PAGE.read_text(encoding="utf-8") if PAGE.exists() else EMPTY
    head = before.partition(MARK)[0] if MARK in before else before.rstrip("\n") + "\n\n"
    after = head + section()
    if check and after != before:
        print(f"{PAGE.relative_to(ROOT)} is not up to date: run python -m tests.faults.messages")
        return 1
    if not check and after != before:
        PAGE.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
