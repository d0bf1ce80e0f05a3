"""Tables of import functions by the names of what they import."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, TypeVar

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def registers(rules: MutableMapping[str, Any], names: tuple[str, ...]) -> Callable[[FunctionT], FunctionT]:
    """A decorator that puts a function into a table under names; of one that has a function already, another is a defect."""

    def register(function: FunctionT) -> FunctionT:
        for name in names:
            if rules.setdefault(name, function) is not function:
                raise ValueError(f"two rules for {name}")
        return function

    return register


def files(rules: Mapping[str, Any]) -> dict[str, str]:
    """The names of a table, with the file of their function."""
    return {name: getattr(rules[name], "func", rules[name]).__module__.split(".")[-1] for name in sorted(rules)}
