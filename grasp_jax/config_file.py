"""Loads the config file that the command line names; a fault in it becomes one line with file and line number."""

import difflib
import hashlib
import importlib.util
import inspect
import os
import pathlib
import re
import shlex
import sys
import traceback
import types
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, FrozenConfigDict

from grasp_jax.config import (
    CONFIG_FILE,
    FIELDS,
    Config,
    default_config,
    flatten,
    read_config,
    resolve_source,
    unknown_field,
)
from grasp_jax.core.errors import UserError
from grasp_jax.core.origin import own_line
from grasp_jax.core.words import one_line

OVERRIDE = re.compile(r"--?(?:no)?config\.([^=\s]+)")


class ConfigFileParser(flags.ArgumentParser[ConfigDict]):
    """The parser of --config: "FILE.py", "FILE.py:VARIANT" or a workdir's config.json -> its config, locked."""

    def parse(self, argument: str) -> ConfigDict:
        return load_config(argument)

    def flag_type(self) -> str:
        return "config object"


def load_config(named: str) -> ConfigDict:
    """The locked config that get_config of "FILE.py" or "FILE.py:VARIANT" returns.

    Raises:
      UserError: there is no such file, it fails, has no get_config, or returns something else than the project's config.
    """
    if pathlib.Path(named).name == CONFIG_FILE:
        return of_workdir(pathlib.Path(named).parent)
    file, colon, variant = named.partition(":")
    path = _existing(file, named)
    module = _executed(path)
    get_config = getattr(module, "get_config", None)
    if not callable(get_config):
        raise UserError(
            f"--config: {file} has no function get_config(); expected one that returns a config, as in configs/quickstart.py"
        )
    given = (variant,) if colon else ()
    try:
        inspect.signature(get_config).bind(*given)
    except TypeError:
        wanted = (
            "has no variants: leave out the part from ':' on"
            if colon
            else f"wants a variant: --config={file}:NAME"
        )
        raise UserError(f"--config={named}: get_config of this file {wanted}") from None
    try:
        config = get_config(*given)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(
            f"--config: {_where(error, path)}: {_message(error)}; {_remedy(error, path.parent)}"
        ) from error
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"--config: get_config of {file} returns {type(config).__name__}; expected the config that grasp_jax.config.default_config() "
            "returns, with fields changed"
        )
    if isinstance(config, FrozenConfigDict):
        config = config.as_configdict()
    check_fields(config, file)
    return config.lock()


def open_config(place: str | os.PathLike[str]) -> Config:
    """The config of a config file or of a workdir, for `Recommender(config)` (docs/python.md).

    Args:
      place: FILE.py, as `grasp-jax init` writes it, or FILE.py:VARIANT; the file is run, and so registers the methods that it imports. Or a
        workdir, whose config.json is read.

    Raises:
      UserError: there is no such file or workdir, the file fails or is damaged, or a value is not allowed.
    """
    named = os.fspath(place)
    path = pathlib.Path(named).expanduser()
    workdir = path.parent if path.name == CONFIG_FILE else path
    if (workdir / CONFIG_FILE).is_file():
        return read_config(workdir)
    if workdir != path or path.is_dir():
        raise UserError(f"{named}: no workdir with a {CONFIG_FILE}, and no config file")
    try:
        return resolve_source(Config.from_dict(load_config(str(path)).to_dict()))
    except UserError as error:
        raise UserError(re.sub(r"^--config[=:] ?", "", str(error))) from error


def import_own(named: str) -> None:
    """Runs a Python module or file, which registers methods and backbones from outside the package.

    Args:
      named: MODULE, or FILE.py, such as a config file.

    Raises:
      UserError: there is no such module or file, or it fails.
    """
    path = pathlib.Path(named)
    try:
        if path.suffix == ".py":
            _executed(_existing(named, named, "--import"), "--import")
        else:
            importlib.import_module(named)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        missing = isinstance(error, ModuleNotFoundError)
        where = f"{line}: " if (line := own_line(error)) else ""
        remedy = _remedy(error, pathlib.Path()) if missing else "mend the module"
        raise UserError(f"--import={named}: {where}{_message(error)}; {remedy}") from error


def of_workdir(workdir: pathlib.Path) -> ConfigDict:
    """The config of an earlier run, as flags change it.

    Raises:
      UserError: it is missing, damaged or of another version.
    """
    config = default_config()
    with config.unlocked():
        config.update(read_config(workdir).to_dict())
    return config.lock()


def check_fields(config: ConfigDict, file: str) -> None:
    """Raises UserError where a config lacks a field of the defaults, or has another."""
    own = {
        key
        for key in flatten(config.to_dict())
        if key.split(".")[0] not in ("by_method", "by_source")
    }
    known = set(FIELDS)
    if lacking := sorted(known - own):
        raise UserError(
            f"--config: {file}: config.{lacking[0]} is missing; expected one that begins with default_config()"
        )
    if surplus := sorted(own - known):
        raise UserError(f"--config: {file}: {unknown_field(surplus[0])}")


def check_overrides(arguments: Sequence[str]) -> None:
    """Raises UserError for a flag --config.a.b that names no field, that comes without --config, or for two configs."""
    files = [
        argument.partition("=")[2] for argument in arguments if re.match(r"--?config=", argument)
    ]
    if len(files) > 1:
        raise UserError(
            f"--config: given {len(files)} times, {' and '.join(files)}; expected one config file"
        )
    fields = [found[1] for argument in arguments if (found := OVERRIDE.match(argument))]
    for field in fields:
        if field not in FIELDS and not field.startswith(("by_method.", "by_source.")):
            raise UserError(unknown_field(field))
    if fields and not any(re.match(r"--?config(=|$)", argument) for argument in arguments):
        raise UserError(
            f"config.{fields[0]}: given without --config; expected a file that it changes, --config=configs/quickstart.py"
        )


def _existing(file: str, named: str, flag: str = "--config") -> pathlib.Path:
    path = pathlib.Path(file).expanduser()
    if path.is_dir():
        inside = next(
            iter(sorted(other.name for other in path.glob("*.py") if other.name != "__init__.py")),
            "NAME.py",
        )
        raise UserError(
            f"{flag}={named}: {file} is a folder; expected a file in it, such as {path / inside}"
        )
    if path.is_file():
        if path.suffix != ".py":
            raise UserError(
                f"{flag}={named}: {file} is no Python file; expected one that ends in .py, such as configs/quickstart.py"
            )
        return path
    folder = path.parent if path.parent.is_dir() else pathlib.Path("configs")
    others = {other.stem: other for other in folder.glob("*.py") if other.name != "__init__.py"}
    close = difflib.get_close_matches(path.name.removesuffix(".py"), others, 1, 0.5)
    hint = (
        f"did you mean {others[close[0]]}?"
        if close
        else "configs/ holds those that come with the project"
        if flag == "--config"
        else "expected the path of a file, or the name of a module without .py"
    )
    noun = "config file" if flag == "--config" else "file"
    raise UserError(f"{flag}={named}: no such {noun}; {hint}")


def _executed(path: pathlib.Path, flag: str = "--config") -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(_module_name(path), path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except UserError:
        del sys.modules[spec.name]  # half a module, which an import would return
        raise
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        raise UserError(
            f"{flag}: {_where(error, path)}: {_message(error)}; {_remedy(error, path.parent)}"
        ) from error
    return module


def _module_name(path: pathlib.Path) -> str:
    """The name under which `import` finds a file, so that both ways make one module; another where this name is another file's."""
    name, file = path.stem, path.resolve()
    alone = f"{name}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    if not name.isidentifier():
        return alone
    try:
        found = importlib.util.find_spec(name)
    except ValueError:  # a module without description, such as a script as __main__
        return alone
    same = found is None or (found.origin and pathlib.Path(found.origin).resolve() == file)
    return name if same else alone


def _where(error: BaseException, path: pathlib.Path) -> str:
    """File and line: of the syntax error, or the deepest one within the config file."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    own = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if pathlib.Path(frame.filename).resolve() == path.resolve()
    ]
    return f"{path}:{own[-1]}" if own else str(path)


def _remedy(error: BaseException, folder: pathlib.Path) -> str:
    """What to do about an error of a file in a folder: for a module that is not found, where Python should look."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return "mend the file"
    if "." in error.name:  # Python found the package, so its folder is known
        return "install it, or mend the import"
    module = error.name
    if (folder / f"{module}.py").is_file() or (folder / module).is_dir():
        return f"put PYTHONPATH={_extended(str(folder))} in front of the command"
    return f"install it, or put PYTHONPATH={_extended('FOLDER')} in front of the command, with the folder of {module}.py"


def _extended(folder: str) -> str:
    """PYTHONPATH with one more folder: the others that this call has stay, as it may need them."""
    known = os.environ.get("PYTHONPATH", "")
    return shlex.quote(os.pathsep.join([folder, known] if known else [folder]))


def _message(error: BaseException) -> str:
    text: Any = (
        error.msg
        if isinstance(error, SyntaxError)
        else error.args[0]
        if isinstance(error, KeyError) and error.args
        else error
    )
    return f"{type(error).__name__}: {one_line(text, 300)}"
