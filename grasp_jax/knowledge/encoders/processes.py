"""Encodes texts in several processes of this machine, with the same vectors as in one.

A process is a new program that reads texts from its standard input and writes their vectors to its standard output. It ends when its input
ends, so also when this process is killed. It is not forked, because the threads of JAX do not survive that; and it is no process of
`multiprocessing`, whose `spawn` runs the user's script again.
"""

import contextlib
import json
import os
import pathlib
import queue
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from grasp_jax.core.cores import cores
from grasp_jax.core.errors import UserError
from grasp_jax.knowledge.encoders import encoder_class
from grasp_jax.knowledge.encoders.base import TextEncoder
from grasp_jax.knowledge.encoders.lsa import LsaEncoder
from grasp_jax.knowledge.encoders.random_projection import ProjectionEncoder

# Each computes on one core, and needs neither a server nor a GPU. A subclass may, so it is not listed.
ONE_CORE = (LsaEncoder, ProjectionEncoder)
MOST = 8  # this process alone fills the templates for all of them
LEAST_BLOCKS = 16  # for each process, so that its start takes less time than it saves
_SHAPE = struct.Struct("<qq")
_READY = b"\0vectors follow\n"
_PROGRAM = (  # with this process's path, so that it imports the same modules
    "import sys; name, folder, *sys.path = sys.argv[1:]; "
    "from grasp_jax.knowledge.encoders.processes import answer; answer(name, folder)"
)


class Encoding(NamedTuple):
    """How texts are encoded.

    Attributes:
      encode: texts -> [n, E] float32 vectors.
      at_once: how many threads may call it at the same time.
    """

    encode: Callable[[Sequence[str]], np.ndarray]
    at_once: int


@contextlib.contextmanager
def encoding(
    name: str, encoder: TextEncoder, folder: pathlib.Path, blocks: int
) -> Iterator[Encoding]:
    """Encodes in this process, or in one process for each core if the encoder allows it and there is enough to do.

    Args:
      name: of the encoder, as in `ENCODERS`.
      encoder: fitted.
      folder: where `encoder.save` has written it.
      blocks: how often `encode` will be called.

    Raises:
      UserError: by `encode`: one of the processes ended.
    """
    count = min(cores(), MOST, blocks // LEAST_BLOCKS) if type(encoder) in ONE_CORE else 1
    if count < 2:
        yield Encoding(encoder.encode, 1)
        return
    idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()

    def encode(texts: Sequence[str]) -> np.ndarray:
        process = idle.get()
        try:
            return process.encode(texts)
        finally:
            idle.put(process)

    with contextlib.ExitStack() as started:
        for _ in range(count):
            process = _Process(name, folder)
            started.callback(process.end)
            idle.put(process)
        yield Encoding(encode, count)


class _Process:
    """One of the processes."""

    def __init__(self, name: str, folder: pathlib.Path) -> None:
        self._ready = False
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115  # `end` closes it
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, name, str(folder), *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            start_new_session=True,  # so that Ctrl-C reaches this process alone, which then ends the others
        )

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """[n, E] float32; UserError if the process ended."""
        to, back = self._process.stdin, self._process.stdout
        assert to is not None and back is not None
        with contextlib.suppress(BrokenPipeError):
            # Not as \u escapes: JSON would read the two halves of a surrogate pair as one letter.
            line = json.dumps(texts, ensure_ascii=False).encode("utf-8", "surrogatepass")
            to.write(line + b"\n")
            to.flush()
        if not self._ready:  # skips what other code has printed at the start
            self._ready = any(line.endswith(_READY) for line in back)
        head = back.read(_SHAPE.size)
        if len(head) == _SHAPE.size:
            rows, width = _SHAPE.unpack(head)
            content = back.read(4 * rows * width)
            if len(content) == 4 * rows * width:
                return np.frombuffer(content, np.float32).reshape(rows, width)
        status = self._process.wait()
        self._messages.seek(0)
        last = self._messages.read().decode(errors="replace").strip().splitlines()[-1:]
        reason = last[0][:300] if last else "it gave no reason; was there enough memory?"
        raise UserError(
            f"encode: a process that encodes texts ended with status {status}: {reason}; "
            "run the command again, it continues with the vectors that are there"
        )

    def end(self) -> None:
        """Kills the process."""
        self._process.kill()
        self._process.communicate()
        self._messages.close()


def answer(name: str, folder: str) -> None:
    """What each process does: for each line of input, a JSON list of texts, writes the shape and the values of their vectors."""
    with open(os.dup(1), "wb") as output:
        os.dup2(2, 1)  # keeps the output of other code out of the answers
        encoder = encoder_class(name).load(pathlib.Path(folder))
        output.write(_READY)
        for line in sys.stdin.buffer:
            vectors = np.asarray(encoder.encode(json.loads(line)), np.float32)
            output.write(_SHAPE.pack(*vectors.shape) + vectors.tobytes())
            output.flush()
