"""Runs campaigns in their quick form in one process, because the imports take longer than most cases.

    python -m tests.faults.quick BASE CAMPAIGN [CAMPAIGN ...]

It prints the output of each campaign, and after it a line `NAME: exit STATUS`.
"""

import runpy
import sys


def main() -> None:
    base, *campaigns = sys.argv[1:]
    for campaign in campaigns:
        sys.argv = [f"tests.faults.{campaign}", "--quick", f"--base={base}"]
        status = 0
        try:
            runpy.run_module(f"tests.faults.{campaign}", run_name="__main__")
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
            if not isinstance(ended.code, int | None):
                print(ended.code)
        print(f"{campaign}: exit {status}", flush=True)


if __name__ == "__main__":
    main()
