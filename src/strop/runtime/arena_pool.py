"""One budget of memory that the contexts of a process share: those that do not run at once use the same bytes.

    arenas = ArenaPool(64 << 20)
    first, second = (engine.context(arenas=arenas) for engine in engines)

A run takes a piece that holds its context's arena and scratch out of the pool, and gives it back when it is over. Runs that find no room
wait, and are served in the order in which they came; one that fits in beside may pass, but not so often that a large one starves.
"""

from __future__ import annotations

import mmap
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop.errors import OptionError

#: Pieces begin at multiples of this many bytes.
_ALIGNMENT = 4096
_HUGE_PAGE = 2 << 20
#: How often others may pass the first in the queue, and the part of the budget from which on a piece is not small.
_MOST_PASSED, _SMALL = 64, 4


class ArenaPool:
    """Memory to be shared. Any number of threads may take pieces of it.

    Attributes:
        size: bytes of the budget.
        peak: the largest sum of bytes that were taken at once.
        waits: how many runs had to wait for room.
    """

    def __init__(self, size: int) -> None:
        """Reserves the budget; the system gives pages as they are touched.

        Raises:
            OptionError: not a positive number, or more than the system has.
        """
        if size <= 0:
            raise OptionError("unusable budget of arenas", got=size, expected="bytes, more than 0")
        self.size = -(-size // _ALIGNMENT) * _ALIGNMENT
        try:
            self._memory = mmap.mmap(-1, self.size)
        except (OSError, OverflowError, ValueError) as error:
            raise OptionError("the system has no such budget of arenas", got=f"{size} bytes", hint=str(error)) from error
        if self.size >= _HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):
                self._memory.madvise(mmap.MADV_HUGEPAGE)
        self._view: NDArray[Any] = np.frombuffer(self._memory, np.uint8)
        self._base = int(self._view.ctypes.data)
        self._taken: dict[int, int] = {}
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()
        self.peak = self.waits = self._passed = 0

    def check(self, need: int, where: str) -> None:
        """OptionError when a context needs more than there is."""
        if need > self.size:
            raise OptionError(
                "the budget of arenas is too small for the engine", where=where, got=f"{self.size} bytes", expected=f"at least {need}",
                hint="--arena-budget, or ArenaPool(bytes)",
            )  # fmt: skip

    @contextmanager
    def lease(self, need: int) -> Iterator[int]:
        """The address of ``need`` bytes that are nobody else's until the ``with`` ends; waits for them."""
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            offset = self._take(ticket, need)
            self.waits += offset is None
            try:
                while offset is None:
                    self._changed.wait()
                    offset = self._take(ticket, need)
            finally:
                if self._queue[0] is ticket:
                    self._passed = 0
                self._queue.remove(ticket)
                self._changed.notify_all()
        try:
            yield self._base + offset
        finally:
            with self._changed:
                del self._taken[offset]
                self._changed.notify_all()

    def _take(self, ticket: object, need: int) -> int | None:
        """A piece for whoever is first in the queue, or for one who fits in beside, as long as the first has not been passed too often."""
        first = self._queue[0] is ticket
        if not first and self._passed >= _MOST_PASSED:
            return None
        offset = self._find(need)
        if offset is not None:
            self._passed += not first
            self._taken[offset] = need
            self.peak = max(self.peak, sum(self._taken.values()))
        return offset

    def _find(self, need: int) -> int | None:
        """An offset with so many free bytes: the lowest, or for a small piece the highest, so that large ones find room in a row."""
        gaps, at = [], 0
        for start, size in sorted(self._taken.items()):
            gaps.append((at, start))
            at = -(-(start + size) // _ALIGNMENT) * _ALIGNMENT
        gaps.append((at, self.size))
        fitting = [(low, high) for low, high in gaps if high - low >= need]
        if not fitting:
            return None
        return (fitting[-1][1] - need) // _ALIGNMENT * _ALIGNMENT if need * _SMALL <= self.size else fitting[0][0]
