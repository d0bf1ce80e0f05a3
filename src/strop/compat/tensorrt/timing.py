"""ITimingCache: the records of Strop's tuning as TensorRT hands them about."""

from __future__ import annotations

from strop.engine.options import machine_of
from strop.tune.records import HEADER, Records, path_of


class ITimingCache:
    """Times of kernels, as text that may be merged and carried to other machines of the same kind. A build takes those of its cache
    into account beside those of this machine, and the cache holds both after it."""

    def __init__(self, data: bytes = b"") -> None:
        """ValueError for bytes that are no such text."""
        if data and not data.startswith(HEADER.encode()):
            raise ValueError("the bytes are no timing cache")
        self._records = Records.parse(data.decode("utf-8", "replace"), lambda _: None)

    def serialize(self) -> bytearray:
        """The text's bytes."""
        return bytearray(self._records.text().encode())

    def combine(self, input_cache: ITimingCache, ignore_mismatch: bool) -> bool:
        """Takes in another one: of two times the faster one stays."""
        self._records.merge(input_cache._records)
        return True

    def reset(self) -> bool:
        """Empties it."""
        self._records = Records()
        return True

    def exchange(self) -> None:
        """Brings the cache and the records of this machine together: each then has both."""
        self._records.write(path_of(machine_of("host", None)))
