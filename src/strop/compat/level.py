"""``compat_level``: which version of TensorRT is imitated where versions differ."""

from __future__ import annotations

from collections.abc import Callable

from strop import knobs
from strop.errors import OptionError

LEVELS = ("auto", "5", "8", "10", "11")
_chosen: list[str] = []
_watchers: list[Callable[[], None]] = []


def watch(change: Callable[[], None]) -> None:
    """Calls a function now and whenever the level changes."""
    _watchers.append(change)
    change()


def set_level(level: str | int) -> None:
    """Chooses 5, 8, 10 or 11, whose members and defaults count then; ``auto`` accepts what any version accepts.

    Raises:
        OptionError: another level.
    """
    if str(level) not in LEVELS:
        raise OptionError("unknown compat level", got=level, expected=", ".join(LEVELS))
    _chosen[:] = [str(level)]
    for change in _watchers:
        change()


def current() -> int | None:
    """The version to imitate; None for ``auto``."""
    name = _chosen[0] if _chosen else knobs.COMPAT_LEVEL.get() or "auto"
    if name not in LEVELS:
        raise OptionError("unknown compat level", where="STROP_COMPAT_LEVEL", got=name, expected=", ".join(LEVELS))
    return None if name == "auto" else int(name)
