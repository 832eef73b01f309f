"""Writes what small runs compute today as the golden values.

    python -m tests.golden.write [CASE ...]

Without a case all are written. Do so only where the numbers are meant to change, and say in the commit which ones do and why.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from tests.command_line import ROOT
from tests.golden.measure import CASES

VALUES = pathlib.Path(__file__).parent / "values"
AT_ONCE = 2  # processes that measure; the default cases are shared out to so many


def measured(names: Sequence[str]) -> dict[str, Any]:
    """What the named cases compute, each in processes that have not used JAX before.

    Raises:
      RuntimeError: a run failed; says what it said.
    """
    shares = [share for share in (names[number::AT_ONCE] for number in range(AT_ONCE)) if share]
    with tempfile.TemporaryDirectory(prefix="grasp-jax-golden-") as folder:
        outs = [pathlib.Path(folder) / f"{number}.json" for number in range(len(shares))]
        logs = [pathlib.Path(folder) / f"{number}.log" for number in range(len(shares))]
        started = []
        for out, log, share in zip(outs, logs, shares, strict=True):
            with log.open("w", encoding="utf-8") as file:
                command = [sys.executable, "-m", "tests.golden.measure", str(out), *share]
                started.append(
                    subprocess.Popen(
                        command,
                        cwd=ROOT,
                        env=os.environ | {"JAX_PLATFORMS": "cpu"},
                        stdout=file,
                        stderr=file,
                    )
                )
        codes = [process.wait() for process in started]
        for code, log in zip(codes, logs, strict=True):
            if code != 0:
                raise RuntimeError(
                    f"exit {code}: {log.read_text(encoding='utf-8', errors='replace')[-3000:]}"
                )
        return {
            name: found
            for out in outs
            for name, found in json.loads(out.read_text(encoding="utf-8")).items()
        }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.golden.write")
    parser.add_argument(
        "cases", nargs="*", choices=[*CASES, []], metavar="CASE", help=f"one of {', '.join(CASES)}"
    )
    VALUES.mkdir(exist_ok=True)
    for name, found in measured(parser.parse_args().cases or list(CASES)).items():
        (VALUES / f"{name}.json").write_text(
            json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8"
        )
        print(f"{VALUES / name}.json")


if __name__ == "__main__":
    main()
