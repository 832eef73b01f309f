"""Counts the kernels that a compiled function launches in one iteration of its longest loop, from the text of the compiled module.

A GPU takes about as long to start a small kernel as to run it, so the number of kernels decides the time of a small model's step.
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
    """The kernels of one iteration.

    Attributes:
      kernels: their number; a loop inside the iteration counts as often as it is known to run.
      chain: length of the longest sequence in which each kernel waits for the one before.
      kinds: number of kernels by kind of instruction.
      stages: number of kernels by stage of the program: one of `trace.STAGES`, or "other".
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
    """Adds the kernels of a computation, times a factor, to the counters; returns the longest chain of one execution."""
    depth: dict[str, int] = {}
    for name in module.inside(computation):  # an instruction comes after those that it reads
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
    """Loop -> number of iterations, for those loops for which the compiler knows it."""
    found = {}
    for line in text.splitlines():
        if " while(" in line and (trips := _TRIPS.search(line)):
            found[line.split("=", 1)[0].strip().removeprefix("ROOT ").lstrip("%")] = int(trips[1])
    return found
