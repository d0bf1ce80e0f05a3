"""Names for what a frontend makes on the way."""

from __future__ import annotations

from collections.abc import Container


def free_name(wanted: str, *taken: Container[str], mark: str = ":", first: int = 1) -> str:
    """``wanted``, or the first of ``wanted`` + ``mark`` + number that is in none of ``taken``, numbers from ``first`` on."""
    name, number = wanted, first
    while any(name in names for names in taken):
        name = f"{wanted}{mark}{number}"
        number += 1
    return name
