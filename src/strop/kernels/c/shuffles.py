"""Transposition in registers: networks of two-operand shuffles, generated for an element size and a number of lanes.

A Network is a C helper ``name(x, x_step, y, y_step)`` that moves ``y[r * y_step + c] = x[r + c * x_step]`` for r < rows, c < columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.kernels.c.vector import loaded
from strop.kernels.c.writer import Writer


@dataclass(frozen=True)
class Network:
    """A helper.

    Attributes:
        name: C identifier.
        rows: elements along the axis in which x is consecutive.
        columns: elements along the axis in which y is consecutive.
        text: its C definition.
    """

    name: str
    rows: int
    columns: int
    text: str


def lanes(size: int, isa_lanes: int, limit: int) -> int:
    """Elements per vector: a power of two, at most ``limit``, that fits a register; small elements stay in 16 bytes."""
    most = isa_lanes * 4 // size if size >= 4 else 16 // size
    while most > max(1, limit):
        most //= 2
    return most


class _Lines:
    """Statements of a helper over vectors of ``lanes`` elements."""

    def __init__(self, count: int, size: int) -> None:
        self.count = count
        self.size = size
        self.lines: list[str] = []
        self._made = 0

    @property
    def vector(self) -> str:
        """Name of the vector type."""
        return f"bits{8 * self.size}x{self.count}"

    @property
    def element(self) -> str:
        """Name of the element type."""
        return f"uint{8 * self.size}_t"

    def load(self, at: str) -> str:
        """A new vector from memory."""
        return self._new(f"*(const {self.vector} *)({at})")

    def store(self, at: str, value: str) -> None:
        """A vector to memory."""
        self.lines.append(f"*({self.vector} *)({at}) = {value};")

    def shuffle(self, a: str, b: str, picks: Sequence[int]) -> str:
        """A new vector of lanes of a (0..count-1) and b (count..); -1: any."""
        if all(p in (-1, k) for k, p in enumerate(picks)):
            return a
        return self._new(f"__builtin_shufflevector({a}, {b}, {', '.join(map(str, picks))})")

    def _new(self, text: str) -> str:
        name = f"v{self._made}"
        self._made += 1
        self.lines.append(f"const {self.vector} {name} = {text};")
        return name

    def network(self, name: str, rows: int, columns: int) -> Network:
        """The helper."""
        size = self.size * self.count
        align = f"aligned({self.size}), may_alias"
        typedef = f"typedef {self.element} {self.vector} __attribute__((vector_size({size}), {align}));" if self.count > 1 else ""
        if self.count == 1:
            typedef = f"typedef {self.element} {self.vector} __attribute__((may_alias));"
        width = "__attribute__((min_vector_width(512))) " if size == 64 else ""  # else clang halves 64-byte vectors
        head = f"static inline {width}void {name}(const {self.element} *x, int64_t x_step, {self.element} *y, int64_t y_step) {{"
        text = "\n".join([typedef, head, *(f"  {line}" for line in self.lines), "}"])
        return Network(name, rows, columns, text)


def widened_square(w: Writer, helpers: list[str], lanes: int, kind: DType, source: tuple[str, int], to: tuple[str, int]) -> None:
    """Writes the transposition of a square of floats of type ``kind`` to f32.

    Args:
        source, to: C address of the first element, and elements between rows.
    """
    turn = square(lanes, 4)
    if turn.text not in helpers:
        helpers.append(turn.text)
    if kind is dt.f32:
        w(f"{turn.name}((const uint32_t *)({source[0]}), {source[1]}, (uint32_t *)({to[0]}), {to[1]});")
        return
    w("float square[VL * VL] __attribute__((aligned(64)));")
    with w.loop("i_", "VL"):
        w(f"vstore(square + i_ * VL, {loaded(kind, f'{source[0]} + i_ * {source[1]}', 1)});")
    w(f"{turn.name}((const uint32_t *)square, VL, (uint32_t *)({to[0]}), {to[1]});")


def square(side: int, size: int) -> Network:
    """Transposes ``side`` by ``side`` elements.

    Pairs of rows are zipped within 16-byte parts, by elements of growing size, then the parts are transposed among the rows.
    """
    out = _Lines(side, size)
    v = [out.load(f"x + {c} * x_step" if c else "x") for c in range(side)]
    per_part = min(side, max(1, 16 // size))
    step = 1
    while step < per_part:  # zip elements of ``step`` original elements
        v = _zip_stage(out, v, step, per_part)
        step *= 2
    parts = side // per_part
    distance = 1
    while distance < parts:
        v = _part_stage(out, v, distance, per_part)
        distance *= 2
    for r in range(side):
        out.store(f"y + {r} * y_step" if r else "y", v[r])
    return out.network(f"transpose_{8 * size}_{side}", side, side)


def _zip_stage(out: _Lines, v: list[str], step: int, per_part: int) -> list[str]:
    """Rows c and c + step of each group of 2 * step: low and high halves of every 16-byte part, zipped by ``step`` elements.

    After the last stage vector ``g * per_part + k`` holds, in part q, elements of row ``q * per_part + k`` and of the columns of group g.
    """
    side = len(v)
    result = [""] * side
    for base in range(0, side, 2 * step):
        for k in range(step):
            a, b = v[base + k], v[base + step + k]
            for half in (0, 1):
                picks = []
                for part in range(0, side, per_part):
                    for unit in range(per_part // (2 * step)):
                        first = part + half * (per_part // 2) + unit * step
                        picks += [first + i for i in range(step)] + [side + first + i for i in range(step)]
                result[base + 2 * k + half] = out.shuffle(a, b, picks)
    return result


def _part_stage(out: _Lines, v: list[str], distance: int, per_part: int) -> list[str]:
    """Swaps 16-byte parts between vectors ``distance`` groups apart."""
    side = len(v)
    result = list(v)
    for i in range(side):
        group = i // per_part
        if group & distance:
            continue
        j = i + distance * per_part
        low, high = [], []
        for part in range(side // per_part):
            source = (part, 0) if not part & distance else (part - distance, 1)
            other = (part + distance, 0) if not part & distance else (part, 1)
            low += [source[1] * side + source[0] * per_part + e for e in range(per_part)]
            high += [other[1] * side + other[0] * per_part + e for e in range(per_part)]
        result[i], result[j] = out.shuffle(v[i], v[j], low), out.shuffle(v[i], v[j], high)
    return result


def _gathered(out: _Lines, sources: Sequence[str], wanted: Sequence[tuple[int, int]]) -> str:
    """A vector whose lane k is lane ``wanted[k][1]`` of ``sources[wanted[k][0]]``, from a chain of shuffles."""
    count = out.count
    used = sorted({s for s, _ in wanted})
    if len(used) == 1:
        return out.shuffle(sources[used[0]], sources[used[0]], [lane for _, lane in wanted])
    first, second, *others = used
    picks = [lane if s == first else count + lane if s == second else -1 for s, lane in wanted]
    made = out.shuffle(sources[first], sources[second], picks)
    for other in others:
        picks = [count + lane if s == other else k for k, (s, lane) in enumerate(wanted)]
        made = out.shuffle(made, sources[other], picks)
    return made


def interleave(columns: int, count: int, size: int) -> Network:
    """``count`` elements from each of ``columns`` runs, to one run that alternates between them; y_step must be ``columns``."""
    out = _Lines(count, size)
    sources = [out.load(f"x + {c} * x_step" if c else "x") for c in range(columns)]
    for v in range(columns):
        flat = range(v * count, (v + 1) * count)
        made = _gathered(out, sources, [(k % columns, k // columns) for k in flat])
        out.store(f"y + {v * count}" if v else "y", made)
    return out.network(f"interleave_{8 * size}_{columns}x{count}", count, columns)


def separate(rows: int, count: int, size: int) -> Network:
    """One run that alternates between ``rows``, to ``count`` elements of each of ``rows`` runs; x_step must be ``rows``."""
    out = _Lines(count, size)
    sources = [out.load(f"x + {v * count}" if v else "x") for v in range(rows)]
    for r in range(rows):
        flat = [r + k * rows for k in range(count)]
        made = _gathered(out, sources, [(k // count, k % count) for k in flat])
        out.store(f"y + {r} * y_step" if r else "y", made)
    return out.network(f"separate_{8 * size}_{rows}x{count}", rows, count)
