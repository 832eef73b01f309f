"""How many kernels a compiled function launches in an iteration of its longest loop, read from the text of the compiled module.

A GPU spends about as long on beginning a small kernel as on running it, so a step of a small model takes as long as it has kernels.
"""

import collections
import re
from collections.abc import Mapping
from typing import NamedTuple

from benchmarks.trace import Module

NO_KERNEL = frozenset(
    (
        "parameter",
        "constant",
        "get-tuple-element",
        "tuple",
        "bitcast",
        "after-all",
        "partition-id",
        "replica-id",
        "opt-barrier",
        "async-done",
        "copy-done",
    )
)
WHILE, CALL = "while", "call"
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


class Launches(NamedTuple):
    """Of an iteration.

    Attributes:
      kernels: how many; a loop inside the iteration counts as often as it is known to run.
      chain: length of the longest sequence in which each waits for the one before.
      kinds: how many of each kind of instruction.
      stages: how many of each stage of the program, of `trace.STAGES` or "other".
    """

    kernels: int
    chain: int
    kinds: dict[str, int]
    stages: dict[str, int]


def count(text: str) -> Launches:
    """Counts in compiled HLO: one iteration of the loop with the most instructions outside inner loops, or the entry computation if there
    is no loop.
    """
    module = Module(text)
    trips = _trip_counts(text)
    loops = [name for name, own in module.instructions.items() if own.opcode == WHILE]
    outer = [name for name in loops if not module.loops_around(name)]
    bodies = [module.instructions[name].called for name in outer]
    longest = max(bodies, key=lambda body: len(module.inside(body)), default=module.entry)
    kinds: collections.Counter[str] = collections.Counter()
    stages: collections.Counter[str] = collections.Counter()
    chain = _walk(module, longest, trips, 1, kinds, stages)
    return Launches(sum(kinds.values()), chain, dict(kinds), dict(stages))


def _walk(
    module: Module,
    computation: str,
    trips: Mapping[str, int],
    times: int,
    kinds: collections.Counter[str],
    stages: collections.Counter[str],
) -> int:
    """Adds what a computation launches, so many times, to the counters; returns its longest chain, once."""
    depth: dict[str, int] = {}
    for name in module.inside(computation):  # instructions stand after what they read
        own = module.instructions[name]
        before = max((depth.get(operand, 0) for operand in own.operands), default=0)
        if own.opcode == WHILE:
            turns = trips.get(name, 1)
            length = turns * _walk(module, own.called, trips, times * turns, kinds, stages)
        elif own.opcode == CALL:
            length = _walk(module, own.called, trips, times, kinds, stages)
        else:
            length = int(own.opcode not in NO_KERNEL)
            if length:
                kinds[_kind(module, name)] += times
                stages[module.scope(name).stage] += times
        depth[name] = before + length
    return max(depth.values(), default=0)


def _kind(module: Module, name: str) -> str:
    own = module.instructions[name]
    return f"{own.opcode} {own.target}" if own.target else own.opcode


def _trip_counts(text: str) -> dict[str, int]:
    """How often each loop runs, where the compiler knows."""
    found = {}
    for line in text.splitlines():
        if " while(" in line and (trips := _TRIPS.search(line)):
            found[line.split("=", 1)[0].strip().removeprefix("ROOT ").lstrip("%")] = int(trips[1])
    return found
