"""The register tile that matrix-like kernels share: MR rows by NV vectors of accumulators, and its fused epilogue.

A row is an output position (pixel, token), a column an output channel.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from math import gcd
from typing import Any, ClassVar

import numpy as np

from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.expr import Expr
from strop.kernels.base import Operand
from strop.kernels.c.rows import Tail
from strop.kernels.c.vector import VectorC, loaded, stored, stored_side_by_side, vector_type
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
        dtype: of its elements.
        zero_point: it is one number for all, known to be whole and from -128 to 255.
    """

    pointer: str
    row: int
    column: int
    dtype: DType = dt.f32
    zero_point: bool = False


def is_zero_point(operand: Operand) -> bool:
    """True for a constant of one whole number from -128 to 255."""
    const = operand.const
    return const is not None and const.size == 1 and float(const.reshape(-1)[0]) in _ZERO_POINTS


_ZERO_POINTS = range(-128, 256)
#: Bytes of a cache line.
_LINE = 64


@dataclass(frozen=True)
class Ahead:
    """What a tile fetches into the second cache level for the panel after its own: a cache line before every ``every`` products per
    element, from where its C parameter ``ahead`` points.

    The first tile that walks a panel would otherwise wait for memory; spread over all tiles of the panel before, the fetching is hidden.
    """

    every: int

    def lines(self, steps: int) -> int:
        """Cache lines fetched by a tile of ``steps`` products per element."""
        return steps // self.every

    def floats(self, steps: int) -> int:
        """The same as elements of 4 bytes."""
        return self.lines(steps) * (_LINE // 4)


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
class Part:
    """A piece of a tile's epilogue: so many vectors, and what writes it."""

    vectors: int
    write: Callable[[], None]


@dataclass(frozen=True)
class Tile:
    """MR rows by NV vectors; the last vector may be partial (``tail`` lanes, 0: full; C text where only a run knows). ``half``: its upper
    half stays zero, at half the work (see ``halves``). ``sums``: what the accumulators' names begin with."""

    mr: int
    nv: int
    tail: Tail = 0
    half: bool = False
    sums: str = "c"

    #: Type of the accumulators, weights per lane that a step takes, and bytes of one.
    accumulates: ClassVar[DType] = dt.f32
    step_items: ClassVar[int] = 1
    item: ClassVar[int] = 4

    def acc(self, r: int, v: int) -> str:
        """Name of an accumulator."""
        return f"{self.sums}{r}_{v}"

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
            w(f"const vf w{v} = {self._weights(f'{weights} + {v} * VL' if v else weights)};")
        self._multiply(w, rows)

    def _multiply(self, w: Writer, rows: Sequence[str]) -> None:
        """Adds the products of the weights ``w0``, ... with one broadcast element per row."""
        for r, element in enumerate(rows):
            with w.block(""):
                w(f"const vf e = {self._element(element)};")
                for v in range(self.nv):
                    fma = "vfma_half" if self.half and v == self.nv - 1 else "vfma"
                    w(f"{self.acc(r, v)} = {fma}(e, w{v}, {self.acc(r, v)});")

    def _weights(self, address: str) -> str:
        """C text of a vector of weights."""
        return f"vload({address})"

    def _element(self, row: str) -> str:
        """C text of what a row multiplies with, in all lanes."""
        return f"vset1({row})"

    def walk(self, w: Writer, steps: int, weights: str, rows: Sequence[str], fetch: Ahead | None = None, start: int = 0) -> None:
        """The loop over ``k`` from ``start`` to ``steps`` that moves the pointer ``weights``; ``rows`` as in ``step``. ``fetch``: from 0 only."""
        move = self.move(weights)
        if fetch is None:
            with w.block(f"for (int64_t k = {start}; k < {steps}; k++, {move})"):
                self.step(w, weights, rows)
            return
        with w.block(f"for (int64_t j = 0; j < {steps}; j += {fetch.every})"):
            self.fetch_line(w)
            with w.block(f"for (int64_t k = j; k < j + {fetch.every}; k++, {move})" if fetch.every > 1 else ""):
                if fetch.every == 1:
                    w("const int64_t k = j;")
                self.step(w, weights, rows)
                if fetch.every == 1:
                    w(f"{move};")

    def move(self, weights: str) -> str:
        """C text that moves the pointer ``weights`` by a step."""
        return f"{weights} += {self.nv * self.step_items} * VL"

    def fetch_line(self, w: Writer) -> None:
        """Fetches what the pointer ``ahead`` points to, and moves it by a cache line."""
        w("__builtin_prefetch(ahead, 0, 2);", f"ahead += {_LINE // self.item};")

    def finish(self, w: Writer, epilogue: Expr, sides: Sequence[Side], out: Side) -> None:
        """Applies the epilogue to every accumulator and stores it.

        Args:
            w: where to write.
            epilogue: over Input(0), the accumulator, and Input(1 + k), ``sides[k]``.
            sides: epilogue operands.
            out: the result.
        """
        for part in self.parts(w, epilogue, sides, out):
            part.write()

    def parts(self, w: Writer, epilogue: Expr, sides: Sequence[Side], out: Side) -> list[Part]:
        """``finish``, to be written piece by piece: writes the loads that all rows share, and returns the rest, a part for vectors that are stored at once."""
        inputs = [self.accumulates, *(side.dtype for side in sides)]
        shared = self._shared(w, epilogue, sides)
        zeros = {k + 1 for k, side in enumerate(sides) if side.zero_point}
        together = self._together(epilogue, inputs, zeros, out)

        def write(r: int, first: int, count: int) -> None:
            with w.block(""):
                printers = [VectorC(inputs, self._loads(sides, shared, r, v), w, f"t{v}_") for v in range(first, first + count)]
                address = self._address(out, r, first)
                if count > 1:
                    found = [each for p in printers if (each := p.unrounded(epilogue, zeros)) is not None]
                    zero = found[0][1]
                    w(stored_side_by_side(out.dtype, address, [text for text, _ in found], f"(int32_t)*({sides[zero - 1].pointer})" if zero else "0"))
                else:
                    text = printers[0].print(epilogue, out.dtype)
                    w(stored(out.dtype, address, text, out.column, self.tail if first == self.nv - 1 else 0))

        return [Part(count, partial(write, r, first, count)) for r in range(self.mr) for first, count in together]

    def _together(self, epilogue: Expr, inputs: Sequence[DType], zeros: Collection[int], out: Side) -> list[tuple[int, int]]:
        """Which column vectors are stored at once: the first of each and their number."""
        side_by_side = out.column == 1 and VectorC(inputs, str, lambda _: None).unrounded(epilogue, zeros) is not None
        whole = self.nv - bool(self.tail) if side_by_side else 0
        counts = [4] * (whole // 4) + [2] * (whole % 4 // 2)
        counts += [1] * (self.nv - sum(counts))
        return list(zip(accumulate(counts, initial=0), counts, strict=False))

    def _loads(self, sides: Sequence[Side], shared: dict[tuple[int, int], str], r: int, v: int) -> Callable[[int], str]:
        """C text of what the epilogue reads, by its number, at a row and a column vector."""

        def load(index: int) -> str:
            if index == 0:
                return self.acc(r, v)
            return shared.get((index, v)) or self._load(sides[index - 1], r, v, bool(self.tail) and v == self.nv - 1)

        return load

    def _shared(self, w: Writer, epilogue: Expr, sides: Sequence[Side]) -> dict[tuple[int, int], str]:
        """Operands that are the same for all rows are loaded once per column vector."""
        names: dict[tuple[int, int], str] = {}
        for k, side in enumerate(sides):
            if side.row != 0 and self.mr > 1:
                continue
            for v in range(self.nv):
                partial = bool(self.tail) and v == self.nv - 1
                names[k + 1, v] = name = f"s{k}_{v}"
                w(f"const {vector_type(side.dtype)} {name} = {self._load(side, 0, v, partial)};")
        return names

    def _address(self, side: Side, r: int, v: int) -> str:
        offset = r * side.row
        terms = [side.pointer] + ([str(offset)] if offset else [])
        if v and side.column:
            terms.append(f"{v} * VL" if side.column == 1 else f"{v * side.column} * VL")
        return " + ".join(terms)

    def _load(self, side: Side, r: int, v: int, partial: bool) -> str:
        return loaded(side.dtype, self._address(side, r, v), side.column, self.tail if partial else 0)


@dataclass(frozen=True)
class DotTile(Tile):
    """A tile whose steps add several products to each lane: ``dot`` of a row's ``step_items`` consecutive elements with as many weights."""

    dot: ClassVar[str]

    def step(self, w: Writer, weights: str, rows: Sequence[str]) -> None:
        """As ``Tile.step``; ``rows`` are C addresses of each row's elements."""
        for v in range(self.nv):
            w(f"const vi w{v} = vload_q({weights} + {v * self.step_items} * VL);" if v else f"const vi w0 = vload_q({weights});")
        for r, address in enumerate(rows):
            with w.block(""):
                w(f"const vi e = {self._element(address)};")
                for v in range(self.nv):
                    w(f"{self.acc(r, v)} = {self.dot}({self.acc(r, v)}, e, w{v});")

    def _element(self, row: str) -> str:
        return f"vquad({row})"


@dataclass(frozen=True)
class PairTile(DotTile):
    """A tile of f32 sums of products of bf16, two per step and lane."""

    dot: ClassVar[str] = "vdot2_bf16"
    step_items: ClassVar[int] = 2
    item: ClassVar[int] = 2


@dataclass(frozen=True)
class IntegerTile(DotTile):
    """A tile of i32 sums of products of unsigned 8-bit rows with signed 8-bit weights, four per step and lane.

    Its accumulators start at what the caller declares as ``start0``, ``start1``, ..., one per column vector. ``flip``: the rows are signed, and
    128 is added to each of their values.
    """

    flip: bool = False

    accumulates: ClassVar[DType] = dt.i32
    dot: ClassVar[str] = "vdot4"
    step_items: ClassVar[int] = 4
    item: ClassVar[int] = 1

    def declare(self, w: Writer) -> None:
        for r in range(self.mr):
            w("vi " + ", ".join(f"{self.acc(r, v)} = start{v}" for v in range(self.nv)) + ";")

    def _element(self, row: str) -> str:
        return f"vquad({row}){' ^ (int32_t)0x80808080' if self.flip else ''}"


@dataclass(frozen=True)
class IntegerSmallTile(IntegerTile):
    """As ``IntegerTile``, of weights with which two products fit i16."""

    dot: ClassVar[str] = "vdot4_small"


@dataclass(frozen=True)
class IntegerPairTile(IntegerTile):
    """As ``IntegerTile``, of 16-bit rows with 16-bit weights, two per step and lane."""

    dot: ClassVar[str] = "vdot2"
    step_items: ClassVar[int] = 2
    item: ClassVar[int] = 2


@dataclass(frozen=True)
class MixedTile(Tile):
    """A tile of f32 sums whose weights are integers, widened as they are loaded. ``bits``: 8, or 4: then a byte holds two weights of a
    column, the lower half the first, each with 8 added. ``scaled``: the caller declares vectors ``s0``, ... that they are multiplied with,
    ``shifted``: and ``b0``, ... that are added then.
    """

    bits: int = 8
    scaled: bool = False
    shifted: bool = False

    item: ClassVar[int] = 1

    def _weights(self, address: str) -> str:
        return f"vcvt_f(vload_i8({address}))"

    def pair(self, w: Writer, weights: str, rows: Sequence[str], more: Sequence[str]) -> None:
        """Multiplies the one or two weights per column in the bytes at ``weights``, as ``step``; ``more`` are the elements that meet the
        second ones, none where these only fill the byte up, or with 8 bits."""
        for v in range(self.nv):
            kind = "u8" if self.bits == 4 else "i8"
            w(f"const vi q{v} = vload_{kind}({weights}{f' + {v} * VL' if v else ''});")
        for half, elements in enumerate((rows, more)):
            if not elements:
                continue
            with w.block(""):
                for v in range(self.nv):
                    whole = f"q{v}" if self.bits == 8 else f"q{v} >> 4" if half else f"q{v} & 15"
                    real = f"vcvt_f({whole})"
                    w(f"const vf w{v} = {f'vfma({real}, s{v}, b{v})' if self.shifted else f'{real} * s{v}'};")
                self._multiply(w, elements)


@dataclass(frozen=True)
class NarrowTile(Tile):
    """A tile of f32 sums whose weights are 16-bit floats, widened as they are loaded."""

    stored: DType = dt.bf16

    item: ClassVar[int] = 2

    def _weights(self, address: str) -> str:
        return loaded(self.stored, address, 1)


@dataclass(frozen=True)
class MemoryTile(Tile):
    """A tile of f32 sums of floats of up to 32 bits, both factors widened as they are loaded; ``rows`` are C addresses of elements.

    Attributes:
        left, right: types of the rows' elements and of the column vectors.
    """

    left: DType = dt.f32
    right: DType = dt.f32

    def element(self, row: str) -> str:
        """C text of a row's element in all lanes."""
        return loaded(self.left, row, 0)

    def _element(self, row: str) -> str:
        return self.element(row)

    def _weights(self, address: str) -> str:
        return loaded(self.right, address, 1)


def halves(tail: Tail, isa: Isa) -> bool:
    """True when a last vector of ``tail`` lanes fills no more than half, and the instruction set can do half a multiply-add."""
    return isinstance(tail, int) and 0 < tail <= isa.lanes // 2 and "vfma_half" in isa.table


def shorter(mr: int) -> list[int]:
    """Heights of tiles, the tallest first, that together cover any number of rows below ``mr``, each used once at most."""
    return [1 << k for k in reversed(range((mr - 1).bit_length()))]


def pack_panels(matrix: np.ndarray[Any, Any], lanes: int, nv: int, dtype: DType = dt.f32) -> np.ndarray[Any, Any]:
    """Packs [K, N] weights into panels of ``nv`` vectors: [ceil(N / (nv*lanes))][K][nv*lanes], the last panel only as
    wide as needed (whole vectors), padded with zeros. Returns a flat array of ``dtype``."""
    k, n = matrix.shape
    width = nv * lanes
    parts = []
    for start in range(0, n, width):
        block = matrix[:, start : start + width]
        vectors = -(-block.shape[1] // lanes)
        padded = np.zeros((k, vectors * lanes), dtype.numpy)
        padded[:, : block.shape[1]] = block
        parts.append(padded.reshape(-1))
    return np.concatenate(parts) if parts else np.zeros(0, dtype.numpy)


def pack_groups(matrix: np.ndarray[Any, Any], lanes: int, nv: int, size: int) -> np.ndarray[Any, Any]:
    """As ``pack_panels`` for weights [K, N] of any type, ``size`` of a column next to each other; K is filled up with zeros. Returns a flat
    array of the weights' type."""
    k, n = matrix.shape
    groups = -(-k // size)
    whole = np.zeros((size * groups, -(-n // lanes) * lanes), matrix.dtype)
    whole[:k, :n] = matrix
    turned = np.ascontiguousarray(whole.reshape(groups, size, -1).transpose(0, 2, 1))
    width = nv * lanes
    return np.concatenate([turned[:, start : start + width].reshape(-1) for start in range(0, whole.shape[1], width)])


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
    loads = nv * lanes * 4 / source + mr * 0.5 + mr * aliasing(row_bytes, mr)
    return k * max(fma, loads) + _TILE_OVERHEAD + (2.0 + 0.6 * mr) * nv


def aliasing(row_bytes: int, mr: int) -> float:
    """Cycles per row lost when many rows of a tile fall into one set of the first cache level (8 ways, 4 KiB apart)."""
    rows_per_set = mr * gcd(row_bytes, 4096) / 4096
    return 3.0 if rows_per_set > 6 else 0.0
