"""The checksum of engine files, in numpy; ``runtime/src/hash.c`` defines it and is its C twin."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Buffer: TypeAlias = "bytes | bytearray | memoryview | NDArray[Any]"
Bytes: TypeAlias = NDArray[np.uint8]

BLOCK = 4096
_LANES = 8
_MULTIPLIER = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
_BLOCKS_AT_ONCE = 256


def _mix(state: int, word: int) -> int:
    x = state ^ word
    return ((x << 29 | x >> 35) & _MASK) * _MULTIPLIER & _MASK


def _mix_arrays(state: NDArray[np.uint64], words: NDArray[np.uint64]) -> None:
    """state = mix(state, words), elementwise and in place."""
    state ^= words
    high = state >> np.uint64(35)
    state <<= np.uint64(29)
    state |= high
    state *= np.uint64(_MULTIPLIER)


def _block_words(blocks: NDArray[np.uint64]) -> list[int]:
    """One word for each block of uint64 [n, 512]."""
    rows = blocks.reshape(len(blocks), -1, _LANES)
    first = [lane * _MULTIPLIER & _MASK for lane in range(1, _LANES + 1)]
    lanes = np.tile(np.array(first, np.uint64), (len(blocks), 1))
    for row in range(rows.shape[1]):
        _mix_arrays(lanes, rows[:, row])
    a, d = lanes[:, 0].copy(), lanes[:, 3].copy()
    for lane in (1, 2):
        _mix_arrays(a, lanes[:, lane])
    for lane in (4, 5):
        _mix_arrays(d, lanes[:, lane])
    for words in (d, lanes[:, 6], lanes[:, 7]):
        _mix_arrays(a, words)
    words_of_blocks: list[int] = a.tolist()
    return words_of_blocks


class Hash64:
    """The checksum of engine files, fed in pieces of any size.

    A change confined to one aligned 8-byte word always changes the digest.
    """

    def __init__(self) -> None:
        self._state = 0
        self._size = 0
        self._rest = b""

    def update(self, data: Buffer) -> None:
        """Add bytes."""
        view = as_bytes(data)
        self._size += len(view)
        if self._rest:
            take = min(BLOCK - len(self._rest), len(view))
            self._rest += view[:take].tobytes()
            view = view[take:]
            if len(self._rest) < BLOCK:
                return
            self._blocks(np.frombuffer(self._rest, np.uint8))
            self._rest = b""
        whole = len(view) // BLOCK * BLOCK
        self._blocks(view[:whole])
        self._rest = view[whole:].tobytes()

    def _blocks(self, view: Bytes) -> None:
        step = _BLOCKS_AT_ONCE * BLOCK
        for start in range(0, len(view), step):
            words = view[start : start + step].view("<u8").reshape(-1, BLOCK // 8)
            for word in _block_words(words):
                self._state = _mix(self._state, word)

    def digest(self) -> int:
        """The checksum of the bytes so far, zero-padded to whole blocks."""
        state = self._state
        if self._rest:
            block = np.frombuffer(self._rest.ljust(BLOCK, b"\0"), "<u8").reshape(1, -1)
            state = _mix(state, _block_words(block)[0])
        state = _mix(state, self._size)
        return state ^ state >> 32


def hash64(data: Buffer) -> int:
    """The checksum of engine files over `data`."""
    hasher = Hash64()
    hasher.update(data)
    return hasher.digest()


def as_bytes(data: Buffer) -> Bytes:
    """The bytes of a buffer as a flat array, copied only where an array is not contiguous."""
    if not isinstance(data, np.ndarray):
        view = memoryview(data)
        if view.nbytes == 0:
            return np.empty(0, np.uint8)
        return np.frombuffer(view, np.uint8)
    if data.size == 0:
        return np.empty(0, np.uint8)
    return np.ascontiguousarray(data).reshape(-1).view(np.uint8)
