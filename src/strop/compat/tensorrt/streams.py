"""Interfaces that callers implement: streams of bytes, allocators, debug listeners."""

from __future__ import annotations

from enum import IntEnum
from typing import Any


class SeekPosition(IntEnum):
    """Where a seek counts from."""

    SET = 0
    CUR = 1
    END = 2


class IStreamReader:
    """Gives the bytes of an engine."""

    def __init__(self) -> None:
        return None

    def read(self, size: int) -> bytes:
        """At most so many bytes; none at the end."""
        raise NotImplementedError("read must be overridden")


class IStreamReaderV2(IStreamReader):
    """Gives the bytes of an engine, from any place."""

    def read(self, num_bytes: int, stream: int = 0) -> bytes:
        """At most so many bytes; none at the end."""
        raise NotImplementedError("read must be overridden")

    def seek(self, offset: int, where: SeekPosition) -> bool:
        """Goes elsewhere."""
        raise NotImplementedError("seek must be overridden")


class IStreamWriter:
    """Takes the bytes of an engine."""

    def __init__(self) -> None:
        return None

    def write(self, data: bytes) -> int:
        """The number of bytes that were taken."""
        raise NotImplementedError("write must be overridden")


class IGpuAllocator:
    """Gives memory; contexts own theirs, so it is not asked."""

    def __init__(self) -> None:
        return None

    def allocate(self, size: int, alignment: int, flags: int) -> Any:
        """So many bytes."""
        raise NotImplementedError("allocate must be overridden")

    def reallocate(self, address: int, alignment: int, new_size: int) -> Any:
        """More of them."""
        return 0

    def deallocate(self, memory: int) -> bool:
        """Gives them back."""
        return False

    def free(self, memory: int) -> None:
        """Gives them back."""

    def allocate_async(self, size: int, alignment: int, flags: int, stream: int) -> Any:
        """So many bytes."""
        return self.allocate(size, alignment, flags)

    def deallocate_async(self, memory: int, stream: int) -> bool:
        """Gives them back."""
        return self.deallocate(memory)


IGpuAsyncAllocator = IGpuAllocator
