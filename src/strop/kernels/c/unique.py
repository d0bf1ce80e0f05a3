"""The distinct rows of a matrix: row numbers are sorted by merging, so that equal rows keep their order, and runs of equal rows counted."""

from __future__ import annotations

from strop.ir.dtype import DType
from strop.kernels.base import Emitted, In, Kernel, Out, Pointer, Region, memory_seconds
from strop.kernels.c.writer import Writer, address, define, from_memory, held
from strop.ops.select import Unique
from strop.target.base import Target

#: Cycles assumed per comparison of two rows.
_COMPARE = 12.0


class UniqueKernel(Kernel[None]):
    """See the module's text."""

    name = "unique"
    symbolic = True
    empty = True

    def accepts(self, region: Region, target: Target) -> str | None:
        if not isinstance(region.op, Unique):
            return "the anchor is not unique"
        return None if all(view.is_dense() for view in region.outs) else "a result is not row-major"

    def space(self, region: Region, target: Target) -> list[None]:
        return [None]

    def cost(self, region: Region, params: None, target: Target) -> float:
        rows = region.operand(0).view.shape[0]
        cycles = _COMPARE * rows * max(1, rows.bit_length())
        return cycles / (target.ghz * 1e9) + memory_seconds(region, target) + 1e-7

    def emit(self, region: Region, params: None, target: Target) -> Emitted:
        op, x = region.op, region.operand(0).view
        assert isinstance(op, Unique)
        rows, width = x.shape
        helpers: list[str] = []
        order = define(helpers, "strop_order_rows", _ORDER.format(c=x.dtype.c, test=_less(x.dtype)), "int")
        sort = define(helpers, "strop_sort_rows", _SORT.format(c=x.dtype.c, order=order), "int64_t *")
        w = Writer()
        w(f"const {x.dtype.c} *x = a->p[0];", f"{x.dtype.c} *y = a->p[1];")
        w("int64_t *first = a->p[2], *inverse = a->p[3], *counts = a->p[4];")
        w(f"int64_t *place = a->scratch, *spare = place + {rows}, *name = spare + {rows};", "int64_t groups = 0;")
        steps = f"{x.strides[0]}, {width}, {x.strides[1]}"
        w(f"const int64_t *sorted = {sort}(place, spare, {rows}, x, {steps});")
        w("/* The number of the group of every row, kept at the row that begins it. */")
        with w.loop("i", rows):
            w(f"const bool begins = i == 0 || {order}(x, sorted[i - 1], sorted[i], {steps}) != 0;")
            with w.block("if (begins)"):
                w("first[groups] = sorted[i], counts[groups] = 0;", "groups++;")
            w("inverse[sorted[i]] = groups - 1;", "counts[groups - 1]++;")
        if not op.ordered:
            w("/* Numbers again in the order in which the groups first occur; rows that begin one are marked. */")
            with w.loop("i", rows):
                w("spare[i] = 0;")
            with w.loop("g", "groups"):
                w("spare[first[g]] = counts[g];")
            w("groups = 0;")
            with w.loop("i", rows), w.block("if (spare[i])"):
                w("name[inverse[i]] = groups;", "first[groups] = i, counts[groups] = spare[i];", "groups++;")
            with w.loop("i", rows):
                w("inverse[i] = name[inverse[i]];")
        with w.loop("g", "groups"), w.loop("j", width):
            w(f"y[g * {width} + j] = x[{address('', ('first[g]', x.strides[0]), ('j', x.strides[1]))}];")
        w("*(int64_t *)a->p[5] = groups;")
        pointers: tuple[Pointer, ...] = (In(0), *(Out(k) for k in range(5)))
        return Emitted(w.text(), pointers, 1, 3 * 8 * rows + 64, tuple(helpers))


def _less(dtype: DType) -> str:
    """C statements that answer -1 or 1 where elements p and q differ."""
    kind = held(dtype)
    nan = "if ((p != p) != (q != q)) return p != p ? 1 : -1;\n    " if kind.is_float else ""
    return (
        f"const {kind.c} p = {from_memory('x[i * row + j * step]', dtype)}, q = {from_memory('x[k * row + j * step]', dtype)};\n"
        f"    {nan}if (p < q) return -1;\n    if (p > q) return 1;"
    )


#: -1, 0 or 1 as row i comes before row k, is equal to it, or comes after it.
_ORDER = """(const {c} *x, int64_t i, int64_t k, int64_t row, int64_t width, int64_t step) {{
  for (int64_t j = 0; j < width; j++) {{
    {test}
  }}
  return 0;
}}
"""

#: Numbers of the rows in ascending order, equal ones as they come; in one of the two arrays.
_SORT = """(int64_t *from, int64_t *to, int64_t rows, const {c} *x, int64_t row, int64_t width, int64_t step) {{
  for (int64_t i = 0; i < rows; i++) from[i] = i;
  for (int64_t run = 1; run < rows; run *= 2) {{
    for (int64_t low = 0; low < rows; low += 2 * run) {{
      const int64_t mid = low + run < rows ? low + run : rows, high = low + 2 * run < rows ? low + 2 * run : rows;
      int64_t a = low, b = mid;
      for (int64_t at = low; at < high; at++) {{
        const bool left = a < mid && (b == high || {order}(x, from[a], from[b], row, width, step) <= 0);
        to[at] = left ? from[a++] : from[b++];
      }}
    }}
    int64_t *done = to;
    to = from, from = done;
  }}
  return from;
}}
"""

KERNEL = UniqueKernel()
