"""The register tile that matrix-like kernels share: MR rows by NV vectors of accumulators, and its fused epilogue.

A row is an output position (pixel, token), a column an output channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from strop.ir import dtype as dt
from strop.ir.expr import Expr
from strop.kernels.c.rows import Tail
from strop.kernels.c.vector import VectorC
from strop.kernels.c.writer import Writer


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


@dataclass(frozen=True)
class Tile:
    """MR rows by NV vectors; the last vector may be partial (``tail`` lanes, 0: full; C text where only a run knows)."""

    mr: int
    nv: int
    tail: Tail = 0

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
                    w(f"{self.acc(r, v)} = vfma(e, w{v}, {self.acc(r, v)});")

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
