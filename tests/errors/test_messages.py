"""What an error says: what failed, where, what was got, what was expected, what to try."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from strop import errors
from strop.errors import OptionError, StropError

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, StropError)]


def test_every_part_on_its_line() -> None:
    error = OptionError("the level is too high", where="--level", got=9, expected="0..5", hint="take 3")
    assert str(error).splitlines() == [
        "the level is too high",
        "  where: --level",
        "  got: 9",
        "  expected: 0..5",
        "  try: take 3",
    ]
    assert (error.got, error.expected) == ("9", "0..5")


def test_parts_that_are_not_there_are_left_out() -> None:
    assert str(OptionError("what")) == "what"
    assert str(OptionError("what", got=0)) == "what\n  got: 0"


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_is_one_kind_and_documented(kind: type[StropError]) -> None:
    assert issubclass(kind, StropError) and kind.__doc__
    with pytest.raises(StropError):
        raise kind("what")


def test_every_class_is_raised_by_some_test() -> None:
    """A class of errors that no test provokes is a promise that nobody keeps."""
    tests = Path(__file__).parents[1]
    texts = [p.read_text(encoding="utf-8") for p in tests.rglob("test_*.py") if p != Path(__file__)]
    for kind in CLASSES:
        if kind is not StropError:
            pattern = re.compile(rf"raises\(\s*\(?[^)]*\b{kind.__name__}\b")
            assert any(pattern.search(text) for text in texts), kind.__name__
