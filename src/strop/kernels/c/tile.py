"""The register tile that matrix-like kernels share: MR rows by NV vectors of accumulators, and its fused epilogue.

A row is an output position (pixel, token), a column an output channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np

from strop.ir import dtype as dt
from strop.ir.expr import Expr
from strop.kernels.c.rows import Tail
from strop.kernels.c.vector import VectorC
from strop.kernels.c.writer import Writer
from strop.target.base import Target
from strop.target.isa.base import Isa

#: Cycles until a multiply-add's result can be used again.
_LATENCY = 4
#: Cycles spent around one tile outside its multiply-adds: call, pointers, epilogue per accumulator.
_TILE_OVERHEAD = 12.0


@dataclass(frozen=True)
class Side:
    """How an epilogue operand is addressed at a tile.

    Attributes:
        pointer: C text of the address of the tile's first row and column.
        row: elements between rows; 0 when the operand is the same for all rows.
        column: elements between columns: 1, 0 (same for all) or another stride.
    """

    pointer: str
    row: int
    column: int


#: Bytes of a cache line.
_LINE = 64


@dataclass(frozen=True)
class Ahead:
    """What a tile fetches into the second cache level for the panel after its own: a cache line before every ``every`` products per
    element, from where its C parameter ``ahead`` points.

    The first tile that walks a panel would otherwise wait for memory; spread over all tiles of the panel before, the fetching is hidden.
    """

    every: int

    def floats(self, steps: int) -> int:
        """Elements fetched by a tile of ``steps`` products per element."""
        return steps // self.every * (_LINE // 4)


def ahead(panel: int, tiles: int, steps: int, inner: int | None = None) -> Ahead | None:
    """How ``tiles`` tiles of ``steps`` products per element share the fetching of a panel of ``panel`` floats; None when they are too few
    for it to be hidden. ``inner``: steps of the innermost loop, all of them by default."""
    lines = -(-panel * 4 // _LINE)
    each = -(-lines // tiles)
    if each > steps:
        return None
    every = next(n for n in range(min(steps // each, inner or steps), 0, -1) if (inner or steps) % n == 0)
    return Ahead(every)


@dataclass(frozen=True)
class Tile:
    """MR rows by NV vectors; the last vector may be partial (``tail`` lanes, 0: full; C text where only a run knows). ``half``: its upper
    half stays zero, at half the work (see ``halves``)."""

    mr: int
    nv: int
    tail: Tail = 0
    half: bool = False

    def acc(self, r: int, v: int) -> str:
        """Name of an accumulator."""
        return f"c{r}_{v}"

    def declare(self, w: Writer) -> None:
        """Accumulators, zero."""
        for r in range(self.mr):
            w("vf " + ", ".join(f"{self.acc(r, v)} = vzero()" for v in range(self.nv)) + ";")

    def step(self, w: Writer, weights: str, rows: Sequence[str]) -> None:
        """One k: loads NV weight vectors at ``weights`` and multiplies them with one broadcast element per row.

        Args:
            w: where to write.
            weights: C address of NV consecutive vectors.
            rows: C text of each row's element.
        """
        for v in range(self.nv):
            w(f"const vf w{v} = vload({weights} + {v} * VL);" if v else f"const vf w0 = vload({weights});")
        for r, element in enumerate(rows):
            with w.block(""):
                w(f"const vf e = vset1({element});")
                for v in range(self.nv):
                    fma = "vfma_half" if self.half and v == self.nv - 1 else "vfma"
                    w(f"{self.acc(r, v)} = {fma}(e, w{v}, {self.acc(r, v)});")

    def walk(self, w: Writer, steps: int, weights: str, rows: Sequence[str], fetch: Ahead | None = None) -> None:
        """The loop over ``k`` that takes ``steps`` steps and moves the pointer ``weights``; ``rows`` as in ``step``."""
        width = f"{weights} += {self.nv} * VL"
        if fetch is None:
            with w.block(f"for (int64_t k = 0; k < {steps}; k++, {width})"):
                self.step(w, weights, rows)
            return
        with w.block(f"for (int64_t j = 0; j < {steps}; j += {fetch.every}, ahead += {_LINE // 4})"):
            w("__builtin_prefetch(ahead, 0, 2);")
            with w.block(f"for (int64_t k = j; k < j + {fetch.every}; k++, {width})" if fetch.every > 1 else ""):
                if fetch.every == 1:
                    w("const int64_t k = j;")
                self.step(w, weights, rows)
                if fetch.every == 1:
                    w(f"{width};")

    def finish(self, w: Writer, epilogue: Expr, sides: Sequence[Side], out: Side) -> None:
        """Applies the epilogue to every accumulator and stores it.

        Args:
            w: where to write.
            epilogue: over Input(0), the accumulator, and Input(1 + k), ``sides[k]``.
            sides: epilogue operands.
            out: the result.
        """
        inputs = [dt.f32] * (1 + len(sides))
        shared = self._shared(w, epilogue, sides)
        for r in range(self.mr):
            for v in range(self.nv):
                partial = self.tail and v == self.nv - 1

                def load(index: int, r: int = r, v: int = v, partial: bool = bool(partial)) -> str:
                    if index == 0:
                        return self.acc(r, v)
                    return shared.get((index, v)) or self._load(sides[index - 1], r, v, partial)

                with w.block(""):
                    printer = VectorC(inputs, load, w)
                    text = printer.print(epilogue)
                    address = self._address(out, r, v)
                    if out.column != 1:
                        w(f"vscatter_n({address}, {text}, {out.column}, {self.tail if partial else 'VL'});")
                    else:
                        w(f"vstore_n({address}, {text}, {self.tail});" if partial else f"vstore({address}, {text});")

    def _shared(self, w: Writer, epilogue: Expr, sides: Sequence[Side]) -> dict[tuple[int, int], str]:
        """Operands that are the same for all rows are loaded once per column vector."""
        names: dict[tuple[int, int], str] = {}
        for k, side in enumerate(sides):
            if side.row != 0 and self.mr > 1:
                continue
            for v in range(self.nv):
                partial = bool(self.tail) and v == self.nv - 1
                names[k + 1, v] = name = f"s{k}_{v}"
                w(f"const vf {name} = {self._load(side, 0, v, partial)};")
        return names

    def _address(self, side: Side, r: int, v: int) -> str:
        offset = r * side.row
        terms = [side.pointer] + ([str(offset)] if offset else [])
        if v and side.column:
            terms.append(f"{v} * VL" if side.column == 1 else f"{v * side.column} * VL")
        return " + ".join(terms)

    def _load(self, side: Side, r: int, v: int, partial: bool) -> str:
        address = self._address(side, r, v)
        if side.column == 0:
            return f"vset1(*({address}))"
        if side.column == 1:
            return f"vload_n({address}, {self.tail})" if partial else f"vload({address})"
        return f"vgather_n({address}, {side.column}, {self.tail})" if partial else f"vgather({address}, {side.column})"


def halves(tail: Tail, isa: Isa) -> bool:
    """True when a last vector of ``tail`` lanes fills no more than half, and the instruction set can do half a multiply-add."""
    return isinstance(tail, int) and 0 < tail <= isa.lanes // 2 and "vfma_half" in isa.table


def shorter(mr: int) -> list[int]:
    """Heights of tiles, the tallest first, that together cover any number of rows below ``mr``, each used once at most."""
    return [1 << k for k in reversed(range((mr - 1).bit_length()))]


def pack_panels(matrix: np.ndarray[Any, Any], lanes: int, nv: int) -> np.ndarray[Any, Any]:
    """Packs [K, N] weights into panels of ``nv`` vectors: [ceil(N / (nv*lanes))][K][nv*lanes], the last panel only as
    wide as needed (whole vectors), padded with zeros. Returns a flat f32 array."""
    k, n = matrix.shape
    width = nv * lanes
    parts = []
    for start in range(0, n, width):
        block = matrix[:, start : start + width]
        vectors = -(-block.shape[1] // lanes)
        padded = np.zeros((k, vectors * lanes), dtype=np.float32)
        padded[:, : block.shape[1]] = block
        parts.append(padded.reshape(-1))
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)


def product_cycles(k: int, mr: int, nv: float, row_bytes: int, lanes: int, per_fma: float, target: Target) -> float:
    """Estimated cycles of one tile whose rows are read in place and whose panel of weights is walked again for every tile.

    Args:
        k: products per element.
        mr, nv: rows and vectors; half a vector counts 0.5.
        row_bytes: bytes between rows.
        lanes: floats of a vector.
        per_fma: cycles per multiply-add of a vector.
        target: the machine.
    """
    panel = k * nv * lanes * 4
    source = 64.0 if panel < target.l1 // 2 else 32.0 if panel < target.l2 * 9 // 10 else 20.0
    fma = max(mr * nv * per_fma, _LATENCY)
    loads = nv * lanes * 4 / source + mr * 0.5 + mr * _aliasing(row_bytes, mr)
    return k * max(fma, loads) + _TILE_OVERHEAD + (2.0 + 0.6 * mr) * nv


def _aliasing(row_bytes: int, mr: int) -> float:
    """Cycles per row lost when many rows of a tile fall into one set of the first cache level (8 ways, 4 KiB apart)."""
    rows_per_set = mr * gcd(row_bytes, 4096) / 4096
    return 3.0 if rows_per_set > 6 else 0.0
