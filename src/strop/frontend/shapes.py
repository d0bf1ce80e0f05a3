"""Shapes of the inputs: as the file has them, with symbols for sizes it leaves open, or as the caller gives them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from strop.errors import OptionError
from strop.ir.ranges import Free, parse_shape
from strop.ir.shape import Dim, Sym


class Declared(Protocol):
    """What a file says about an input: its sizes, and the axes that it leaves open."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def free(self) -> Sequence[int]: ...


def input_shapes(inputs: Mapping[str, Declared], given: Mapping[str, str | Sequence[Any]], batch: str | None = None) -> dict[str, tuple[Dim, ...]]:
    """Per input its shape.

    Args:
        inputs: what the file says about them. An axis that it leaves open is the symbol ``INPUT_AXIS``.
        given: as ``strop.build`` takes ``shapes``: shapes of inputs, of the file's rank, or ranges of such symbols by name. As in
            TFLite's interpreter any size may be changed; whether the network can have it is seen when it is read.
        batch: name of the symbol of every first axis that is left open; None for one per input.

    Raises:
        OptionError: there is no such input or symbol, or a shape of another rank or with sizes below 1.
    """
    parsed = {name: parse_shape([shape] if isinstance(shape, int) else shape, f"shape of {name}") for name, shape in given.items()}

    def usual_name(name: str, axis: int) -> str:
        return batch if batch is not None and axis == 0 else f"{_identifier(name)}_{axis}"

    symbols = {usual_name(name, axis) for name, tensor in inputs.items() for axis in tensor.free}
    ranges: dict[str, Free] = {}
    for name, shape in parsed.items():
        if name in inputs:
            continue
        if name not in symbols:
            raise OptionError(
                "there is no such input to give a shape to", got=name, expected=", ".join([*inputs, *sorted(symbols)]) or "a model with inputs"
            )
        if len(shape) != 1:
            raise OptionError("a dim is given a shape", where=f"dim {name}", got=f"{len(shape)} dims", expected="one number or range")
    bound: dict[str, Dim] = {}

    def dim(wanted: Dim | Free, usual: str) -> Dim:
        if not isinstance(wanted, Free):
            return wanted
        name = wanted.name or usual
        if wanted.name is not None and wanted.least is not None and ranges.setdefault(name, wanted) != wanted:
            raise OptionError(f"dim {name} is given two ranges", got=name)
        known = ranges.get(name, wanted)
        return bound.setdefault(name, known.dim(name))

    found: dict[str, tuple[Dim, ...]] = {}
    for free in (d for shape in parsed.values() for d in shape if isinstance(d, Free) and d.name and d.least is not None):
        dim(free, "")
    for name, tensor in inputs.items():
        usual = [usual_name(name, axis) for axis in range(len(tensor.shape))]
        if name in parsed:
            shape = parsed[name]
            if len(shape) != len(tensor.shape):
                raise OptionError(
                    "a shape has the wrong rank", where=f"shape of input {name}", got=f"{len(shape)} dims", expected=f"{len(tensor.shape)} dims"
                )
            if any(isinstance(d, int) and d < 1 for d in shape):
                raise OptionError("a dim must be positive", where=f"shape of input {name}", got=shape)
            found[name] = tuple(dim(d, u) for d, u in zip(shape, usual, strict=True))
        else:
            found[name] = tuple(
                size if axis not in tensor.free else dim(parsed[u][0], u) if u in parsed else Sym(u)
                for axis, (size, u) in enumerate(zip(tensor.shape, usual, strict=True))
            )
    return found


def _identifier(name: str) -> str:
    found = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "dim"
    return f"d{found}" if found[0].isdigit() else found
