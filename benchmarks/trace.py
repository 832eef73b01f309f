"""Device time of each operation of a compiled function, and the stage of the program that it belongs to.

The step names its stages with `jax.named_scope`, and flax names the methods of a model. XLA stores this path of names in the metadata of an
instruction, and the profiler names the instruction of each event. So the compiled text gives the stage of an event. XLA drops the names of
matrix products that it rewrites; they get the stage of the neighbouring instructions in the data flow, and such time is counted separately.
"""

import bisect
import collections
import functools
import math
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any, NamedTuple

import jax

STAGES = ("gather", "gate", "project", "backbone", "loss", "update")
METHODS = {
    "item_features": "gather",
    "training_features": "gather",
    "_projected": "project",
    "gates": "gate",
    "head_input": "gate",
    "finish": "gate",
    "last_layer": "loss",
    "score_all": "loss",
    "training_scores": "loss",
}
OTHER = "other"
LOOPS = ("while", "conditional")
# these only pass on what they read
PASSING = ("bitcast", "copy", "transpose", "reshape", "convert", "broadcast")
_END = "end: "
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (?:\(.*?\)|\S+) ([\w\-]+)\((.*)")
_OPERAND = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(r"(?:calls|to_apply|body)=%?([\w.\-]+)")
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_TRANSFORMED = re.compile(r"^(?:jvp|transpose|vmap)\((.*)\)$")


class Scope(NamedTuple):
    """The origin of an instruction.

    Attributes:
      stage: one of `STAGES`, or "other".
      backward: whether it belongs to the backward pass.
      source: "name": its own, or those of what it calls; "neighbour": it has none, so that of what reads it, of what it reads or of the
        loop around it; "": it has none, nor do these.
    """

    stage: str
    backward: bool
    source: str


class Instruction(NamedTuple):
    """One instruction of a compiled module: its kind, its path of scopes, what it reads, and what it calls, if anything.

    Attributes:
      called: the computation; "" for none.
      target: the library's or the kernel's name that a custom call has; "" for others.
    """

    opcode: str
    op_name: str
    operands: tuple[str, ...]
    called: str
    target: str = ""


UNKNOWN = Instruction("", "", (), "")  # for an event that names no instruction of the module


class Event(NamedTuple):
    """One execution of an instruction, in nanoseconds."""

    instruction: str
    begin: float
    end: float


def stage_of(op_name: str) -> str | None:
    """The innermost stage in a path such as "jit(f)/while/body/transpose(jvp(project))/dot_general"; the last part is the primitive."""
    for part in reversed(op_name.split("/")[:-1]):
        while transformed := _TRANSFORMED.match(part):
            part = transformed[1]
        if part in STAGES:
            return part
        if stage := METHODS.get(part.rpartition(".")[2]):  # "encoder.head_input"
            return stage
    return None


class Module:
    """The instructions of a compiled module, read from its text, and the scope of each."""

    def __init__(self, text: str) -> None:
        self.name = text.split(maxsplit=2)[1].rstrip(",")
        self.instructions: dict[str, Instruction] = {}
        self._inside: dict[str, list[str]] = collections.defaultdict(list)
        self._parameters: dict[str, dict[int, str]] = collections.defaultdict(dict)
        self._home: dict[str, str] = {}
        self._callers: dict[str, list[str]] = collections.defaultdict(list)
        self._readers: dict[str, list[tuple[str, int]]] = collections.defaultdict(list)
        computation = self.entry = ""
        for line in text.splitlines():
            if header := _COMPUTATION.match(line):
                computation = header[1]
                self.entry = computation if line.startswith("ENTRY") else self.entry
            elif found := _INSTRUCTION.match(line):
                self._add(computation, found[1], found[2], found[3])

    def _add(self, computation: str, name: str, opcode: str, rest: str) -> None:
        called, op_name, target = (find.search(rest) for find in (_CALLED, _OP_NAME, _TARGET))
        operands = tuple(_OPERAND.findall(rest.split("), ", 1)[0]))
        self.instructions[name] = Instruction(
            opcode,
            op_name[1] if op_name else "",
            operands,
            called[1] if called else "",
            target[1] if target else "",
        )
        self._inside[computation].append(name)
        self._home[name] = computation
        for inner in _CALLED.findall(rest):
            self._callers[inner].append(name)
        if opcode == "parameter":
            self._parameters[computation][int(rest.split(")", 1)[0])] = name
        for k, operand in enumerate(operands):
            self._readers[operand].append((name, k))

    def inside(self, computation: str) -> list[str]:
        """The instructions of a computation, each after those that it reads."""
        return self._inside.get(computation, [])

    def loops_around(self, name: str) -> list[str]:
        """The loops that an instruction is in, the innermost first."""
        callers = self._callers[self._home[name]]
        own = [caller for caller in callers if self.instructions[caller].opcode == "while"]
        return own + [loop for caller in callers for loop in self.loops_around(caller)]

    def is_product(self, name: str) -> bool:
        """Whether an instruction is a matrix product, or a fusion with one inside."""
        own = self.instructions[name]
        return own.opcode == "dot" or (
            own.opcode == "fusion" and any(map(self.is_product, self._inside[own.called]))
        )

    @property
    def containers(self) -> frozenset[str]:
        """Loops, branches and calls, whose events span those of the operations inside."""
        return frozenset(
            name for name, own in self.instructions.items() if own.opcode in (*LOOPS, "call")
        )

    @functools.cache  # noqa: B019  (a module lives as long as its program)
    def scope(self, name: str) -> Scope:
        """An instruction's own scope, which for a fusion is its root's; else that of most of what it calls; else its neighbours'.

        XLA drops the name of a matrix product that it rewrites. Such a product gets the stage of what reads its result: a bias that is
        added, parts that are joined. A gradient that only the update reads gets the stage of the values from which it was computed, not
        the stage that sent the error back. So if the next stage reads a product's result directly, the product counts as part of that
        stage; the share of such time is reported. The copies of a loop's state that XLA adds belong to the loop.
        """
        own = self._named(name)
        if own is not None or name not in self.instructions:
            return own or Scope(OTHER, False, "")
        if self.instructions[name].op_name:
            return Scope(OTHER, "transpose(" in self.instructions[name].op_name, "name")
        readers = list(self._read_by(name, frozenset()))
        reads = list(self._made_of(name))
        reads.sort(key=lambda scope: (scope.stage == "gather", scope.backward))
        inside = [scope for loop in self._callers[self._home[name]] if (scope := self._named(loop))]
        found = (
            [scope for scope in readers if scope.stage != "update"] or reads or readers or inside
        )
        if not found:
            return Scope(OTHER, False, "")
        backward = any(scope.backward for scope in reads) if found is reads else found[0].backward
        return Scope(found[0].stage, backward, "neighbour")

    @functools.cache  # noqa: B019
    def _named(self, name: str) -> Scope | None:
        """The stage in the name of an instruction, or in the names of those that it calls; None if there is none."""
        if name not in self.instructions:
            return None
        instruction = self.instructions[name]
        if stage := stage_of(instruction.op_name):
            return Scope(stage, "transpose(" in instruction.op_name, "name")
        if instruction.opcode in LOOPS:  # several stages may be inside
            return None
        votes = collections.Counter(
            filter(None, map(self._named, self._inside.get(instruction.called, [])))
        )
        return votes.most_common(1)[0][0] if votes else None

    def _made_of(self, name: str) -> Iterator[Scope]:
        """Scopes of the instructions whose results one reads."""
        for operand in self.instructions[name].operands:
            if scope := self._named(operand):
                yield scope
            elif operand in self.instructions and self.instructions[operand].opcode in PASSING:
                yield from self._made_of(operand)

    def _read_by(self, name: str, seen: frozenset[str]) -> Iterator[Scope]:
        """Scopes of the instructions that read a result; for a fusion those inside it, because its root may be of a later stage."""
        for reader, k in self._readers[name]:
            if reader in seen:
                continue
            instruction = self.instructions[reader]
            inner = (
                self._parameters.get(instruction.called, {}).get(k)
                if instruction.opcode == "fusion"
                else None
            )
            stage = None if inner else self._named(reader)
            if stage:
                yield stage
            elif inner or instruction.opcode in PASSING:
                yield from self._read_by(inner or reader, seen | {reader})


def record_events(run: Callable[[], Any], module: str) -> list[Event]:
    """Runs a function under the profiler; returns all events of the compiled module of that name. `run` must wait for its result.

    On a CPU an event ends when its thread has passed the work to other threads; a matrix product continues there until its "end: NAME".
    """
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = (
        0  # Python tracing slows the host, which is also the device on a CPU
    )
    events: list[Event] = []
    finished: dict[str, list[float]] = collections.defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            run()
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        profile = jax.profiler.ProfileData.from_file(str(path))
        # on a CPU the events are in the host's plane
        planes = [
            plane for plane in profile.planes if plane.name.startswith("/device:")
        ] or profile.planes
        for event in (event for plane in planes for line in plane.lines for event in line.events):
            if event.name.startswith(_END):
                finished[event.name.removeprefix(_END)].append(event.start_ns)
            elif (facts := dict(event.stats)).get("hlo_module") == module and "hlo_op" in facts:
                events.append(
                    Event(str(facts["hlo_op"]), event.start_ns, event.start_ns + event.duration_ns)
                )
    return with_ends(events, finished)


def with_ends(events: list[Event], finished: Mapping[str, list[float]]) -> list[Event]:
    """Events extended to their end mark, the last one before the instruction begins again; in order of time."""
    by_name: dict[str, list[Event]] = collections.defaultdict(list)
    for event in sorted(events, key=lambda event: event.begin):
        by_name[event.instruction].append(event)
    lasting = []
    for name, own in by_name.items():
        marks = sorted(finished.get(name, []))
        begins = [event.begin for event in own[1:]] + [math.inf]
        for event, again in zip(own, begins, strict=True):
            k = bisect.bisect_left(marks, again)
            mark = marks[k - 1] if k else event.end
            lasting.append(
                event._replace(end=max(event.end, mark) if mark > event.begin else event.end)
            )
    return sorted(lasting, key=lambda event: event.begin)


def shared_time(events: list[Event], containers: Set[str]) -> tuple[dict[str, float], float]:
    """Nanoseconds of each instruction, and idle nanoseconds, from the first beginning to the last end.

    At each moment the time is divided evenly among the operations in flight, so that the times add up. A loop or a call counts only while
    no operation inside it is in flight; of nested ones only the innermost counts.
    """
    times: dict[str, float] = collections.defaultdict(float)
    borders = [(event.begin, 1, k) for k, event in enumerate(events)] + [
        (event.end, 0, k) for k, event in enumerate(events)
    ]
    leaves: dict[int, None] = {}
    around: dict[int, None] = {}
    idle, last = 0.0, 0.0
    for now, begins, k in sorted(borders):
        if leaves:
            for own in leaves:
                times[events[own].instruction] += (now - last) / len(leaves)
        elif around:
            times[events[next(reversed(around))].instruction] += now - last
        elif last:
            idle += now - last
        last = now
        flying = around if events[k].instruction in containers else leaves
        if begins:
            flying[k] = None
        else:
            flying.pop(k, None)
    return dict(times), idle
