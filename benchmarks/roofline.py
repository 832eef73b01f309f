"""Operations and bytes of each instruction of a compiled module, from its text, and the time that they need at the limits of a device.

Operations are those of matrix products, two for a multiplication and its addition; XLA's own count leaves out the products that it hands to
a library. Bytes are those that an instruction reads and writes outside of itself: of a table from which it takes rows only these rows. What
stays in a cache moves faster than through memory, so a stage can take less time than its bytes say.
"""

import functools
import math
import re
from typing import NamedTuple

from benchmarks.limits import Limits
from benchmarks.trace import Module

PRODUCTS, MEMORY = "products", "memory"
_LINE = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) [\w\-]+\(")
_ROOT = re.compile(r"^\s+ROOT %?([\w.\-]+) = ")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+)[a-z0-9]*\[([\d,]*)\]")
_CONTRACTED = re.compile(r'lhs_contracting_dim(?:s=\{|ensions":\[)([\d,"]*)')
_BITS = re.compile(r"\d+")
FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "iota", "after-all")
TAKING = ("gather", "dynamic-slice")  # they read as much of their first operand as they return
PUTTING = {"dynamic-update-slice": 1, "scatter": 2}  # and which operand they put into the first


class Cost(NamedTuple):
    """Operations in matrix products, and bytes read and written."""

    flops: float = 0.0
    bytes: float = 0.0


class Bound(NamedTuple):
    """The least seconds of a cost at a device's limits, and which of them it is: `PRODUCTS` or `MEMORY`."""

    seconds: float
    limit: str


def bound(cost: Cost, most: Limits, dtype: str) -> Bound:
    """What the measured limits allow; `dtype` is the type of the products' operands."""
    seconds = {
        PRODUCTS: cost.flops / most.flops[dtype],
        MEMORY: cost.bytes / most.bytes_per_second,
    }
    limit = max(seconds, key=lambda name: seconds[name])
    return Bound(seconds[limit], limit)


class Costs:
    """The costs of the instructions of a module."""

    def __init__(self, text: str, module: Module) -> None:
        self._module = module
        self._arrays: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
        self._contracted: dict[str, tuple[int, ...]] = {}
        self._roots: set[str] = set()
        for line in text.splitlines():
            if not (found := _LINE.match(line)):
                continue
            name, shape = found[1], found[2]
            self._arrays[name] = [
                (kind, tuple(int(size) for size in sizes.split(",") if size))
                for kind, sizes in _ARRAY.findall(shape)
            ]
            if contracted := _CONTRACTED.search(line):
                self._contracted[name] = tuple(map(int, _BITS.findall(contracted[1])))
            if _ROOT.match(line):
                self._roots.add(name)

    def of(self, name: str) -> Cost:
        """The cost of one execution; nothing for a loop, a branch or a call, whose instructions have costs of their own."""
        if name not in self._module.instructions or name in self._module.containers:
            return Cost()
        return Cost(self._flops(name), self._moved(name))

    def _size(self, name: str) -> float:
        """Bytes of a result."""
        return sum(math.prod(sizes) * _bytes_of(kind) for kind, sizes in self._arrays.get(name, []))

    @functools.cache  # noqa: B019  (as long as its module)
    def _flops(self, name: str) -> float:
        own = self._module.instructions[name]
        if name in self._contracted and own.operands and self._arrays.get(name):
            left = self._arrays[own.operands[0]][0][1]
            inner = math.prod(left[axis] for axis in self._contracted[name])
            return 2.0 * math.prod(self._arrays[name][0][1]) * inner
        return sum(map(self._flops, self._module.inside(own.called))) if own.called else 0.0

    def _moved(self, name: str) -> float:
        own = self._module.instructions[name]
        if own.opcode in FREE:
            return 0.0
        if own.opcode in TAKING:
            return 2 * self._size(name) + sum(map(self._size, own.operands[1:]))
        if own.opcode in PUTTING:
            return 2 * self._size(own.operands[PUTTING[own.opcode]])
        if own.opcode != "fusion":
            return self._size(name) + sum(map(self._size, own.operands))
        inside = self._module.inside(own.called)
        parameters = [one for one in inside if self._opcode(one) == "parameter"]
        return sum(self._read(one, inside) for one in parameters) + self._written(inside)

    def _read(self, parameter: str, inside: list[str]) -> float:
        """Bytes of a fusion's operand that are read: of one from which rows are taken, or into which some are put, only those."""
        readers = [one for one in inside if parameter in self._module.instructions[one].operands]
        part = 0.0
        for reader in readers:
            own = self._module.instructions[reader]
            if own.operands[0] != parameter or own.opcode not in (*TAKING, *PUTTING):
                return self._size(parameter)
            part += self._size(reader) if own.opcode in TAKING else 0.0
        return part

    def _written(self, inside: list[str]) -> float:
        """Bytes of a fusion's result that are written: where rows are put into an array, only those."""
        root = next(one for one in inside if one in self._roots)
        own = self._module.instructions[root]
        parts = own.operands if own.opcode == "tuple" else (root,)
        return sum(map(self._part_written, parts))

    def _part_written(self, name: str) -> float:
        own = self._module.instructions[name]
        if own.opcode == "bitcast":
            return self._part_written(own.operands[0])
        return self._size(own.operands[PUTTING[own.opcode]] if own.opcode in PUTTING else name)

    def _opcode(self, name: str) -> str:
        return self._module.instructions[name].opcode


def _bytes_of(kind: str) -> float:
    """Of one number of HLO's type: "f32", "bf16", "pred"."""
    bits = _BITS.findall(kind)
    return int(bits[0]) / 8 if bits else 1.0
