"""Free dims as a user writes them: ``1..8``, ``1..8(4)``, ``32..960(320)%32``, ``batch``, ``batch:1..8``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from strop.errors import OptionError
from strop.ir import shape as sh
from strop.ir.shape import Dim, Sym

#: Range of a dim that only has a name.
DEFAULT_MAX, DEFAULT_OPT = 128, 1
#: Largest number of a range.
MAX = (1 << 31) - 1

FORM = "a number, a name, or a range such as 1..8, 1..8(4), 32..960(320)%32 or batch:1..8"

_DIM = re.compile(
    r"(?:(?P<name>[A-Za-z_]\w*)(?::(?=\d)|\Z))?"
    r"(?:(?P<min>\d{1,10})(?:\.\.(?P<max>\d{1,10})(?:\((?P<opt>\d{1,10})\))?(?:%(?P<step>\d{1,10}))?"
    r"(?:\((?P<late>\d{1,10})\))?)?)?",
    re.ASCII,
)
_LETTER = re.compile(r"[^\W\dx]")
_BETWEEN = re.compile(r"x(?=\d)|(?<=[\d)])x")


@dataclass(frozen=True)
class Free:
    """A dim with a name or a range.

    Attributes:
        name: of the symbol, or None for the model's own name.
        least: smallest number, None for the range that the name has elsewhere.
        opt: what kernels are tuned for.
        most: largest number.
        step: what the dim is a multiple of.
    """

    name: str | None
    least: int | None = None
    opt: int = DEFAULT_OPT
    most: int = DEFAULT_MAX
    step: int = 1

    def dim(self, name: str) -> Dim:
        """The Dim over a symbol of this name; a step is a factor."""
        least = 1 if self.least is None else self.least
        symbol = Sym(name, least // self.step, self.opt // self.step, self.most // self.step)
        return sh.mul(symbol.min if symbol.min == symbol.max else symbol, self.step)


def split_dims(text: str) -> list[str]:
    """The dims of a text such as ``1..8x3x224x224`` or, with any names in it, ``batch,3,height,width``."""
    if not text:
        return []
    return text.split(",") if "," in text and _LETTER.search(text) else _BETWEEN.split(text)


def parse_dim(text: str, where: str) -> int | Free:
    """One dim.

    Raises:
        OptionError: not of the form, or numbers out of order.
    """
    found = _DIM.fullmatch(text.strip())
    if found is None or (found["name"] is None and found["min"] is None) or (found["opt"] and found["late"]):
        raise OptionError("unusable dim", where=where, got=text, expected=FORM)
    if found["min"] is None:
        return Free(found["name"])
    low = int(found["min"])
    if found["max"] is None:
        if found["name"] is None and 1 <= low <= MAX:
            return low
        raise OptionError("unusable dim", where=where, got=text, expected=FORM)
    high, step = int(found["max"]), int(found["step"] or 1)
    opt = int(found["opt"] or found["late"] or high)
    if not 1 <= low <= opt <= high <= MAX:
        raise OptionError("a range is out of order", where=where, got=text, expected="1 <= min <= opt <= max")
    if step < 1 or any(number % step for number in (low, opt, high)):
        raise OptionError(
            "a range does not fit its step", where=where, got=text, expected=f"min, opt and max that are multiples of {step}"
        )
    return Free(found["name"], low, opt, high, step)


def parse_shape(given: str | Sequence[int | str | Dim], where: str) -> tuple[Dim | Free, ...]:
    """A shape as a text or as a sequence of numbers, texts and Dims; OptionError names the dim that cannot be used."""
    dims: Iterable[int | str | Dim] = split_dims(given) if isinstance(given, str) else given
    return tuple(parse_dim(dim, where) if isinstance(dim, str) else dim for dim in dims)
