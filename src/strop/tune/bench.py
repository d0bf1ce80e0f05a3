"""The parent's side of the worker process: starts it, hands it libraries and operands, and survives
its end."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from strop.errors import ToolchainError
from strop.ir.op import Array
from strop.tune import worker

#: Seconds that any command but a run may take.
_PATIENCE = 120.0
#: Seconds between looks at whether a wait should go on.
_BEAT = 0.1


class Lost(Exception):
    """The worker ended while it did a command.

    Attributes:
        verdict: ``crashed`` or ``hung``.
    """

    def __init__(self, verdict: str, text: str) -> None:
        super().__init__(text)
        self.verdict = verdict


@dataclass(frozen=True, eq=False)
class Space:
    """Memory of an operand or result: ``size`` bytes whose first element is ``start`` bytes in;
    ``data`` is an operand's content. One that is ``constant`` is as far away as packed weights."""

    size: int
    start: int
    data: Array | None = None
    constant: bool = False


@dataclass(frozen=True, eq=False)
class Load:
    """What a region needs in the worker; ``flush`` bytes are read before a timed run."""

    operands: tuple[Space | None, ...]
    outs: tuple[Space, ...]
    flush: int


@dataclass(frozen=True, eq=False)
class Launch:
    """A kernel to be run.

    Attributes:
        kernel: number in the open library.
        pointers: (space, index or name of a packed array) per pointer, see strop.tune.worker.
        packed: arrays by name.
        tasks: how many there are.
        scratch: bytes.
        limit: seconds after which it hangs.
        dims: what its code does not know, see ``Emitted.dims``.
    """

    kernel: int
    pointers: tuple[tuple[str, int | str], ...]
    packed: dict[str, Array]
    tasks: int
    scratch: int
    limit: float
    dims: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Ran:
    """What a run gave: nanoseconds, whether scratch was overrun, and the results' memory when asked
    for."""

    ns: int
    overrun: bool
    outs: list[Array]


class Bench:
    """A worker that is started on demand, and anew after it was lost. A context manager: it is gone
    afterwards. While it waits for an answer it asks ``interrupted`` whether to raise
    KeyboardInterrupt."""

    def __init__(self, interrupted: Callable[[], bool] = lambda: False) -> None:
        self._interrupted = interrupted
        self._process: subprocess.Popen[bytes] | None = None
        self._library: Path | None = None
        self._load: Load | None = None
        self._sent: set[str] = set()
        self._opened = self._loaded = False
        self._answers: queue.SimpleQueue[tuple[dict[str, Any], bytes] | None] = queue.SimpleQueue()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the worker."""
        process, self._process = self._process, None
        self._opened = self._loaded = False
        self._sent.clear()
        if process is not None:
            process.kill()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):  # of what is buffered for a lost process
                        stream.close()
            process.wait()

    def open(self, library: Path) -> str | None:
        """Opens a library of candidates; answers why it cannot be, or None."""
        self._library, self._load, self._opened, self._loaded = library, None, False, False
        try:
            return self._open()
        except Lost as lost:
            return str(lost)

    def load(self, load: Load) -> None:
        """Makes a region current; it is sent with the next run."""
        self._load, self._loaded = load, False

    def run(self, launch: Launch, timed: bool, over: int | None = None) -> Ran:
        """Runs a kernel of the open library on the current region.

        Args:
            launch: the kernel.
            timed: True to time all tasks with caches prepared; False to get the results of the
                tasks, done in two calls.
            over: operand that the first result overwrites, or None.

        Raises:
            Lost: the worker did not survive it.
        """
        self._prepare(launch)
        command = {
            "do": "run",
            "kernel": launch.kernel,
            "pointers": launch.pointers,
            "tasks": launch.tasks,
            "scratch": launch.scratch,
            "dims": launch.dims,
            "timed": timed,
            "over": over,
            "answer": not timed,
            "limit": launch.limit,
        }
        answer, data = self._ask(command, (), launch.limit)
        outs = []
        if not timed:
            assert self._load is not None
            sizes = [space.size for space in self._load.outs]
            outs = np.split(np.frombuffer(data, np.uint8), np.cumsum(sizes)[:-1])
        return Ran(answer["ns"], answer["overrun"], outs)

    def _prepare(self, launch: Launch) -> None:
        """Brings the worker to where the launch can run."""
        load = self._load
        assert load is not None
        if not self._opened:
            failed = self._open()
            if failed:
                raise Lost("crashed", failed)
        if not self._loaded:
            command = {
                "do": "region",
                "operands": [o and [o.size, o.start, o.constant] for o in load.operands],
                "outs": [[o.size, o.start] for o in load.outs],
                "flush": load.flush,
            }
            self._sent.clear()
            self._ask(
                command, [o.data for o in load.operands if o is not None and o.data is not None]
            )
            self._loaded = True
        for name, array in launch.packed.items():
            if name not in self._sent:
                self._ask({"do": "pack", "name": name, "bytes": array.nbytes}, [array])
                self._sent.add(name)

    def _open(self) -> str | None:
        answer, _ = self._ask({"do": "open", "library": str(self._library)}, ())
        self._opened = "failed" not in answer
        return answer.get("failed")

    def _start(self) -> subprocess.Popen[bytes]:
        if not sys.executable:
            raise ToolchainError(
                "kernels cannot be measured: this process has no Python command",
                hint="build with level 0",
            )
        command = [sys.executable, "-I", "-S", str(worker.__file__)]
        try:
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            raise ToolchainError(
                "kernels cannot be measured: Python does not start",
                got=error,
                where=command[0],
                hint="build with level 0",
            ) from None

    def _ask(
        self, command: dict[str, Any], payload: Sequence[Array], limit: float = _PATIENCE
    ) -> tuple[dict[str, Any], bytes]:
        """Sends a command; returns the answer and the bytes that follow it."""
        if self._process is None:
            self._process = self._start()
            self._answers = queue.SimpleQueue()
            arguments = (self._process.stdout, self._answers)
            threading.Thread(target=_listen, args=arguments, daemon=True).start()
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps(command).encode() + b"\n")
            for array in payload:
                stdin.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
            stdin.flush()
        except (BrokenPipeError, ConnectionResetError):
            raise self._lost(late=False) from None
        deadline = time.monotonic() + limit + 2.0
        while True:
            try:
                answer = self._answers.get(timeout=_BEAT)
            except queue.Empty:
                if self._interrupted():
                    raise KeyboardInterrupt from None
                if time.monotonic() > deadline:
                    raise self._lost(late=True) from None
                continue
            if answer is None:
                raise self._lost(late=False)
            return answer

    def _lost(self, late: bool) -> Lost:
        """The exception for a worker that is gone, or too late to be waited for."""
        assert self._process is not None
        try:
            code = self._process.wait(timeout=0.0 if late else 5.0)
        except subprocess.TimeoutExpired:
            code = 0
        self.close()
        if late or (hasattr(signal, "SIGALRM") and code == -signal.SIGALRM):
            return Lost("hung", "it does not end")
        if code < 0 and os.name == "posix":
            return Lost("crashed", f"signal {-code} ({_signal_name(-code)})")
        return Lost("crashed", f"the process ended with status {code}")


def _listen(
    stream: BinaryIO, answers: queue.SimpleQueue[tuple[dict[str, Any], bytes] | None]
) -> None:
    """Passes on a worker's answers, and None when there will be no more."""
    try:
        while (line := stream.readline()).endswith(b"\n"):
            answer = json.loads(line)
            data = stream.read(answer["payload"])
            if len(data) < answer["payload"]:
                break
            answers.put((answer, data))
    except (OSError, ValueError):  # the stream was closed while it was read
        pass
    answers.put(None)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
