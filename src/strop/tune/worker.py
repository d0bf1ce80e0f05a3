"""The process that runs unproven kernels. It is started as a script and needs nothing but Python's
own library.

It reads commands from standard input: a line of JSON, followed by as many raw bytes as the command
announces. Each command is answered by a line of JSON on standard output, whose ``payload`` says how
many raw bytes follow. It ends when its input ends, or when the kernel crashes it or runs longer than it
may.

open: ``library``: path. Answers ``kernels``, how many there are, or ``failed``, why it cannot be
    loaded.
region: ``operands``: [bytes, offset of the first element, whether it is constant] each, or null; ``outs``: without the last;
    ``flush``: bytes to read before a timed run, after which all but constants are near. The operands' bytes follow.
pack: ``name``, ``bytes``: an array that kernels of the region point to. Its bytes follow.
run: ``kernel``: number; ``pointers``: ["operand" | "out", index] or ["packed", name]; ``tasks``;
    ``scratch``: bytes; ``dims``: the numbers of ``sym``; ``timed``: caches are prepared and all tasks are done in one call, else the
    results are filled with a pattern first and the tasks done in two calls, later ones first;
    ``over``: null, or the operand that the first result overwrites; ``answer``: true to get the
    results' bytes; ``limit``: seconds. Answers ``ns`` and ``overrun``, true when the kernel wrote
    past its scratch.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import signal
import sys
from typing import Any, BinaryIO

PATTERN = 0xFF  # a NaN in every float type
_LINE = 64
_GUARD = 4096


class _Args(ctypes.Structure):
    """strop_args of strop_kernel.h."""

    _fields_ = (
        ("p", ctypes.POINTER(ctypes.c_void_p)),
        ("sym", ctypes.c_void_p),
        ("scratch", ctypes.c_void_p),
        ("thread", ctypes.c_int32),
        ("n_threads", ctypes.c_int32),
    )


class Memory:
    """Bytes at a 64-byte boundary; successive ones start at different places of a page, as in an
    arena."""

    _made = 0

    def __init__(self, size: int) -> None:
        skew = Memory._made * 7 % 61 * _LINE
        Memory._made += 1
        self.size = size
        self._map = mmap.mmap(-1, max(1, size + skew))
        self._view = memoryview(self._map)[skew : skew + size]
        self.address: int = ctypes.addressof(ctypes.c_char.from_buffer(self._map)) + skew

    def fill(self) -> None:
        """Writes the pattern everywhere."""
        ctypes.memset(self.address, PATTERN, self.size)

    def read_from(self, stream: BinaryIO) -> None:
        """Takes its content from a stream."""
        done = 0
        while done < self.size:
            got = stream.readinto(self._view[done:])  # type: ignore[attr-defined]
            if not got:
                sys.exit(0)
            done += got

    def bytes(self) -> memoryview:
        """The content."""
        return self._view


class Bench:
    """What has been opened and loaded so far."""

    def __init__(self, commands: BinaryIO, answers: BinaryIO) -> None:
        self._commands, self._answers = commands, answers
        self._run: Any = None
        self._operands: list[Memory | None] = []
        self._near: list[Memory] = []
        self._outs: list[Memory] = []
        self._starts: dict[str, list[int]] = {}
        self._packed: dict[str, Memory] = {}
        self._flush: Memory | None = None
        self._scratch = Memory(_GUARD)

    def serve(self) -> None:
        """Answers commands until there are no more."""
        while line := self._commands.readline():
            command = json.loads(line)
            answer, payload = getattr(self, "do_" + command.pop("do"))(**command)
            answer["payload"] = sum(len(part) for part in payload)
            self._answers.write(json.dumps(answer).encode() + b"\n")
            for part in payload:
                self._answers.write(part)
            self._answers.flush()

    def do_open(self, library: str) -> tuple[dict[str, Any], list[memoryview]]:
        """Loads a library of candidates."""
        try:
            opened = ctypes.CDLL(library)
        except OSError as error:
            return {"failed": str(error)}, []
        self._run = opened.strop_tune_run
        self._run.restype = ctypes.c_int64
        self._run.argtypes = [ctypes.c_uint32, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64,
                              ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]  # fmt: skip
        return {"kernels": ctypes.c_uint32.in_dll(opened, "strop_kernel_count").value}, []

    def do_region(
        self, operands: list[list[int] | None], outs: list[list[int]], flush: int
    ) -> tuple[dict[str, Any], list[memoryview]]:
        """Makes room for a region and takes its operands."""
        self._packed.clear()
        self._operands = [None if o is None else Memory(o[0]) for o in operands]
        self._near = [m for m, o in zip(self._operands, operands, strict=True) if m is not None and o is not None and not o[2]]
        self._outs = [Memory(size) for size, _ in outs]
        self._starts = {
            "operand": [o[1] if o else 0 for o in operands],
            "out": [start for _, start in outs],
        }
        for memory in self._operands:
            if memory is not None:
                memory.read_from(self._commands)
        if flush and (self._flush is None or self._flush.size < flush):
            self._flush = Memory(flush)
            self._flush.fill()
        elif not flush:
            self._flush = None
        return {}, []

    def do_pack(self, name: str, bytes: int) -> tuple[dict[str, Any], list[memoryview]]:
        """Takes a packed array."""
        self._packed[name] = Memory(bytes)
        self._packed[name].read_from(self._commands)
        return {}, []

    def do_run(
        self,
        kernel: int,
        pointers: list[list[Any]],
        tasks: int,
        scratch: int,
        dims: list[int],
        timed: bool,
        over: int | None,
        answer: bool,
        limit: float,
    ) -> tuple[dict[str, Any], list[memoryview]]:
        """Runs a kernel."""
        if self._scratch.size < scratch + _GUARD:
            self._scratch = Memory(scratch + _GUARD)
        ctypes.memset(self._scratch.address + scratch, PATTERN, _GUARD)
        if not timed:
            for memory in (self._scratch, *self._outs):
                memory.fill()
        if over is not None:
            held = self._operands[over]
            assert held is not None
            ctypes.memmove(self._outs[0].address, held.address, held.size)
        table = (ctypes.c_void_p * max(1, len(pointers)))()
        for index, (space, key) in enumerate(pointers):
            table[index] = self._address(space, key, over)
        sizes = (ctypes.c_int64 * max(1, len(dims)))(*dims)
        args = _Args(table, ctypes.addressof(sizes), self._scratch.address, 0, 1)
        if hasattr(signal, "alarm"):
            signal.alarm(int(limit) + 1)
        ns = (
            self._timed(kernel, args, tasks, scratch)
            if timed
            else self._halves(kernel, args, tasks)
        )
        if hasattr(signal, "alarm"):
            signal.alarm(0)
        guard = ctypes.string_at(self._scratch.address + scratch, _GUARD)
        outs = [m.bytes() for m in self._outs] if answer else []
        return {"ns": ns, "overrun": guard != bytes([PATTERN]) * _GUARD}, outs

    def _address(self, space: str, key: Any, over: int | None) -> int:
        if space == "packed":
            return self._packed[str(key)].address
        if space == "out" or key == over:
            place = 0 if space == "operand" else int(key)
            return self._outs[place].address + self._starts["out"][place]
        held = self._operands[int(key)]
        assert held is not None
        return held.address + self._starts["operand"][int(key)]

    def _halves(self, kernel: int, args: _Args, tasks: int) -> int:
        half = tasks // 2
        ns = self._call(kernel, args, half, tasks, [])
        return ns + (self._call(kernel, args, 0, half, []) if half else 0)

    def _timed(self, kernel: int, args: _Args, tasks: int, scratch: int) -> int:
        ranges = [(m.address, m.size) for m in (self._flush, *self._outs) if m is not None]
        ranges.append((self._scratch.address, scratch))
        ranges += [(m.address, m.size) for m in self._near]
        return self._call(kernel, args, 0, tasks, ranges)

    def _call(
        self, kernel: int, args: _Args, begin: int, end: int, ranges: list[tuple[int, int]]
    ) -> int:
        count = len(ranges)
        addresses = (ctypes.c_void_p * max(1, count))(*(a for a, _ in ranges))
        sizes = (ctypes.c_int64 * max(1, count))(*(s for _, s in ranges))
        return int(self._run(kernel, ctypes.byref(args), begin, end, addresses, sizes, count))


def main() -> None:
    """Serves standard input; whatever a kernel prints goes to standard error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    Bench(sys.stdin.buffer, answers).serve()


if __name__ == "__main__":
    main()
