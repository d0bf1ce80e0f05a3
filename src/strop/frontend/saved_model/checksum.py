"""CRC-32C (Castagnoli), as TensorFlow and LevelDB use it.

Long data are cut into lanes of equal length whose checksums are computed side by side, a byte of every lane at a time, and then joined two by two. That
works since the checksum register is linear over GF(2): the register behind A and B is that behind A, moved by the length of B, plus that of B alone.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from strop.ir.op import Array

_POLYNOMIAL = 0x82F63B78
#: Data shorter than this are worked off a byte at a time.
_SHORT = 1 << 13


@cache
def _table() -> Array:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
    return table


@cache
def _numbers() -> list[int]:
    return [int(v) for v in _table()]


def _walk(state: int, data: bytes) -> int:
    table = _numbers()
    for byte in data:
        state = table[(state ^ byte) & 255] ^ (state >> 8)
    return state


def _moved(columns: list[int], state: int) -> int:
    """A linear map, given by where each bit goes, of a register."""
    found = 0
    for bit, column in enumerate(columns):
        if state >> bit & 1:
            found ^= column
    return found


def _shift(length: int) -> list[int]:
    """The map of a register over ``length`` bytes of zero."""
    found, power = [1 << bit for bit in range(32)], [_walk(1 << bit, b"\0") for bit in range(32)]
    while length:
        if length & 1:
            found = [_moved(power, column) for column in found]
        power = [_moved(power, column) for column in power]
        length >>= 1
    return found


def _apply(columns: list[int], states: Array) -> Array:
    """A linear map of many registers, by tables of their bytes."""
    found = np.zeros_like(states)
    for byte in range(4):
        table = np.zeros(256, np.uint32)
        for bit in range(8):
            table[np.arange(256) >> bit & 1 == 1] ^= np.uint32(columns[8 * byte + bit])
        found ^= table[(states >> np.uint32(8 * byte)) & np.uint32(255)]
    return found


def crc32c(data: bytes | memoryview | Array) -> int:
    """The checksum of bytes."""
    given = np.frombuffer(data, np.uint8)
    state, rest = 0xFFFFFFFF, given
    if given.size >= _SHORT:
        lanes = 1 << min(16, (given.size // 64).bit_length() - 1)
        length = given.size // lanes
        parts = given[: lanes * length].reshape(lanes, length)
        states, table = np.zeros(lanes, np.uint32), _table()
        for column in range(length):
            states = table[(states ^ parts[:, column]) & np.uint32(255)] ^ (states >> np.uint32(8))
        state = _moved(_shift(lanes * length), state)
        while states.size > 1:
            states = _apply(_shift(length), states[::2]) ^ states[1::2]
            length *= 2
        state ^= int(states[0])
        rest = given[length:]
    return _walk(state, rest.tobytes()) ^ 0xFFFFFFFF


def masked(data: bytes | memoryview | Array) -> int:
    """The checksum as files store it: turned by 15 bits, plus a constant (LevelDB, util/crc32c.h)."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
