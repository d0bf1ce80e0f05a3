"""How the columns of a product are cut into panels of register vectors, and which tiles fit the
registers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from strop.target.base import Target
from strop.target.isa.base import Isa


@dataclass(frozen=True)
class Panels:
    """``number`` panels of ``nv`` vectors from column ``start`` on."""

    start: int
    nv: int
    number: int


def balanced(vectors: int, nv: int, lanes: int) -> list[Panels]:
    """Vectors dealt out to the fewest panels of at most ``nv``, as evenly as possible, wider ones
    first."""
    number = -(-vectors // nv)
    narrow, wider = divmod(vectors, number)
    found = [Panels(0, narrow + 1, wider)] if wider else []
    return [*found, Panels(wider * (narrow + 1) * lanes, narrow, number - wider)]


def with_tail(panels: Sequence[Panels], tail: int, lanes: int) -> Iterator[tuple[Panels, int]]:
    """Panels with the lanes of their last vector that are used (0: all); the panel with a partial
    vector is apart."""
    *others, last = panels
    for each in others:
        yield each, 0
    if not tail:
        yield last, 0
        return
    wide = last.nv * lanes
    if last.number > 1:
        yield Panels(last.start, last.nv, last.number - 1), 0
    yield Panels(last.start + (last.number - 1) * wide, last.nv, 1), tail


def fits(mr: int, nv: int, isa: Isa) -> bool:
    """True when the accumulators of a tile, one step's column vectors and a row's element stay in
    registers. Without a fused multiply-add products need registers too."""
    spare = 4 if isa.name == "portable" else 0 if isa.registers > 16 else 1
    return mr * nv + nv + 1 <= isa.registers - spare


def tile_cycles(mr: int, nv: int, steps: int, walked: int, isa: Isa, target: Target) -> float:
    """Estimated cycles of one tile.

    Args:
        mr, nv: rows and vectors.
        steps: products per element.
        walked: bytes of columns read before the same ones are read again.
        isa, target: the machine.
    """
    rate = (
        64.0 if walked <= target.l1 // 2 else 28.0 if walked <= target.l2 // 2 else 10.0
    )  # bytes per cycle
    loads = nv * isa.lanes * 4 / rate + 0.5 * mr
    return steps * max(mr * nv * isa.lanes / target.fma_lanes, loads, 4.0) + 2.0 * mr * nv + 12.0
