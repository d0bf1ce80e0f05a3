"""Indented lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar


class Lines:
    """Collects lines, one step in at first."""

    #: What a step further in adds.
    indentation: ClassVar[str]

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._depth = 1

    def __call__(self, *lines: str) -> None:
        for line in lines:
            self._lines.append(self.indentation * self._depth + line if line else "")

    @contextmanager
    def inside(self) -> Iterator[None]:
        """What is written meanwhile is one step further in."""
        self._depth += 1
        yield
        self._depth -= 1

    def text(self) -> str:
        """Everything written."""
        return "\n".join(self._lines)
