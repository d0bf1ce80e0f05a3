"""Reads all that the frontend may read of an HDF5 file, in a process of its own: ``python walk.py PATH|- SECONDS SIZE``.

The HDF5 library does not return from some damaged files, and ends the process at others; ``hdf5.opened`` learns it from how this one ends.
Errors that the library raises are passed over, they will be met again. It needs only ``h5py``.
"""

from __future__ import annotations

import io
import math
import resource
import sys
import time
from contextlib import suppress

if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file, whose modules are not meant by their bare names

from h5py import Dataset, File, Group, HardLink, h5o

#: What the HDF5 library raises for files that are damaged.
BROKEN = (OSError, RuntimeError, ValueError, TypeError, KeyError, OverflowError, MemoryError)
#: Most bytes of one array, and how much larger than its file it may be: what Deflate can do.
MAX_BYTES, MAX_RATIO = 1 << 31, 1100


def fits(found: Dataset, size: int) -> bool:
    """Whether an array is no larger than a file of ``size`` bytes can hold."""
    return bool(found.nbytes <= min(MAX_BYTES, max(size, 1 << 16) * MAX_RATIO))


def local(found: Dataset) -> bool:
    """Whether the elements of an array lie in its own file."""
    return not found.external and not found.is_virtual


def walk(file: File, size: int) -> None:
    """Reads the groups, the attributes and the packed arrays of a file of ``size`` bytes, each once."""
    seen: set[int] = set()
    todo: list[Group | Dataset] = [file]
    while todo:
        held = todo.pop()
        try:
            address = h5o.get_info(held.id).addr
            if address in seen:
                continue
            seen.add(address)
        except BROKEN:
            continue
        _attributes(held)
        if isinstance(held, Dataset):
            _elements(held, size)
        elif isinstance(held, Group):
            todo += _inside(held)


def _attributes(held: Group | Dataset) -> None:
    with suppress(*BROKEN):
        for name in list(held.attrs):
            _attribute(held, name)


def _attribute(held: Group | Dataset, name: str) -> None:
    with suppress(*BROKEN):
        held.attrs[name]


def _inside(held: Group) -> list[Group | Dataset]:
    found: list[Group | Dataset] = []
    try:
        names = list(held)
    except BROKEN:
        return []
    for name in names:
        try:
            if isinstance(held.get(name, getlink=True), HardLink):
                found.append(held[name])
        except BROKEN:
            continue
    return found


def _elements(found: Dataset, size: int) -> None:
    """Arrays in one piece are only copied, and need no look."""
    with suppress(*BROKEN):
        if found.chunks is not None and local(found) and found.dtype.kind in "fiub" and found.shape is not None and fits(found, size):
            found[()]


def _limit(seconds: int) -> None:
    """The system ends the process after so many seconds of work, and keeps no image of it."""
    most = resource.getrlimit(resource.RLIMIT_CPU)[1]
    wanted = math.ceil(time.process_time()) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


if __name__ == "__main__":
    _limit(int(sys.argv[2]))
    with suppress(*BROKEN):
        walk(File(io.BytesIO(sys.stdin.buffer.read()) if sys.argv[1] == "-" else sys.argv[1], "r"), int(sys.argv[3]))
