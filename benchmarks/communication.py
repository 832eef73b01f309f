"""What a compiled program sends between devices, read from its text."""

import math
import re
from typing import NamedTuple

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_BYTES = {
    "pred": 1,
    "s8": 1,
    "u8": 1,
    "s16": 2,
    "u16": 2,
    "f16": 2,
    "bf16": 2,
    "s32": 4,
    "u32": 4,
    "f32": 4,
    "s64": 8,
    "u64": 8,
    "f64": 8,
}
_INSTRUCTION = re.compile(
    rf"^\s*(?:ROOT )?%?[\w.-]+ = (\S.*?) ({'|'.join(KINDS)})(?:-start)?\(", re.MULTILINE
)
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")


class Collective(NamedTuple):
    """One instruction that moves numbers between devices.

    Attributes:
      kind: of `KINDS`.
      bytes: of its result, on one device.
      group: devices that take part together.
      name: of the operation in the source, with its scopes.
    """

    kind: str
    bytes: int
    group: int
    name: str

    @property
    def sent(self) -> float:
        """Bytes that leave one device, by ring algorithms: what a result holds beyond a device's own part travels."""
        others = (self.group - 1) / self.group
        return {
            "all-reduce": 2 * others * self.bytes,
            "all-gather": others * self.bytes,
            "reduce-scatter": (self.group - 1) * self.bytes,
            "all-to-all": others * self.bytes,
            "collective-permute": float(self.bytes),
        }[self.kind]


def collectives(text: str, num_devices: int) -> list[Collective]:
    """Those of `jax.stages.Compiled.as_text()`; one within a loop or a branch is counted once."""
    found = []
    for match in _INSTRUCTION.finditer(text):
        line = text[match.start() : text.find("\n", match.end())]
        name = re.search(r'op_name="([^"]*)"', line)
        arrays = [
            math.prod(map(int, filter(None, shape.split(",")))) * _BYTES.get(kind, 4)
            for kind, shape in _ARRAY.findall(match[1])
        ]
        found.append(
            Collective(match[2], sum(arrays), _group(line, num_devices), name[1] if name else "")
        )
    return [one for one in found if one.group > 1]


def _group(line: str, num_devices: int) -> int:
    """Devices of a replica group, written as {{0,1},{2,3}}, [groups,devices]<=..., or not at all."""
    if listed := re.search(r"replica_groups=\{\{([\d,]*)\}", line):
        return len(listed[1].split(","))
    if counted := re.search(r"replica_groups=\[\d+,(\d+)\]", line):
        return int(counted[1])
    return num_devices
