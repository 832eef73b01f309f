"""A fingerprint of the code of a method or backbone from outside the package, so that a changed code is noticed in an old workdir."""

import ast
import hashlib
import inspect
import sys
import textwrap
import types
from collections.abc import Iterator, Mapping
from typing import Any

from grasp_jax.core.origin import is_own

CONSTANTS = (bool, int, float, str)


def hash_of_code(registered: object) -> str:
    """SHA-256 of the code of a class and of the classes, functions and constants of the same author that it names, directly or not.

    Comments, docstrings and blanks do not count, and neither do the names of modules and folders: a file that is run, imported or moved is
    the same code. Another version of Python may give another hash.

    Args:
      registered: a class, or an object, whose own numbers and texts count too.

    Returns:
      "" if the source is not at hand, as in an interactive session.
    """
    first = registered if isinstance(registered, type) else type(registered)
    waiting: list[Any] = [first]
    # by module, because two modules may use one name; the hash has the names alone
    code: dict[tuple[str, str], str] = {}
    while waiting:
        one = waiting.pop()
        name = one.__module__, one.__qualname__
        if name in code:
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(one)))
        except (OSError, TypeError, SyntaxError):
            if one is first:
                return ""
            continue
        code[name] = ast.unparse(_without_docstrings(tree))
        scope = getattr(sys.modules.get(one.__module__), "__dict__", {})
        for named, value in _named(tree, scope):
            if _is_constant(value):
                code[one.__module__, named] = repr(value)
            elif isinstance(value, type | types.FunctionType) and _of_author(value, first):
                waiting.append(value)
    if first is not registered:
        own = {key: value for key, value in vars(registered).items() if _is_constant(value)}
        code["", "attributes"] = repr(sorted(own.items()))
    parts = sorted((name, text) for (_, name), text in code.items())
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _is_constant(value: object) -> bool:
    """Whether a value is a number, a text, None, or a tuple, list or dict of such values."""
    if isinstance(value, tuple | list):
        return all(map(_is_constant, value))
    if isinstance(value, dict):
        return all(_is_constant(part) for pair in value.items() for part in pair)
    return value is None or isinstance(value, CONSTANTS)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree


def _named(tree: ast.Module, scope: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What the names in some code, and those of modules in it, stand for; not `__file__` and the like, which change with the folder."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) if name.startswith("__"):
                continue
            case ast.Name(id=name) if name in scope:
                yield name, inspect.unwrap(scope[name]) if callable(scope[name]) else scope[name]
            case ast.Attribute(value=ast.Name(id=module), attr=name) if isinstance(
                scope.get(module), types.ModuleType
            ):
                value = getattr(scope[module], name, None)
                yield f"{module}.{name}", inspect.unwrap(value) if callable(value) else value


def _of_author(value: Any, first: type) -> bool:
    """Whether a class or function is of the package or folder of the first one, and neither of this package nor an installed one."""
    if value.__module__.partition(".")[0] == first.__module__.partition(".")[0]:
        return True
    return is_own(getattr(sys.modules.get(value.__module__), "__file__", None) or "")
