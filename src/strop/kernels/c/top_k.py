"""The k best elements of every row with a heap: one look at each element, and a change of the heap only for those among the best so far.

The root of the heap is the worst of the elements kept. Of equal elements the later one is worse; NaN counts as the largest, as numpy sorts.
"""

from __future__ import annotations

from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.expr import Input
from strop.kernels.base import Emitted, In, Kernel, Out, Region, memory_seconds
from strop.kernels.c.rows import walk_rows
from strop.kernels.c.writer import Writer, from_memory, held
from strop.kernels.extent import dim_of, extents, highest, is_symbolic
from strop.ops.index import TopK
from strop.target.base import Target

#: Cycles assumed per element that is looked at, and per level of the heap that one kept passes.
_LOOK, _SIFT = 3.0, 6.0


class TopKHeap(Kernel[None]):
    """See the module's text."""

    name = "top_k"
    symbolic = True

    def accepts(self, region: Region, target: Target) -> str | None:
        if not isinstance(region.op, TopK):
            return "the anchor is not top_k"
        if region.epilogue != Input(0) or len(region.outs) != 2:
            return "it has not one view per result"
        if region.out.count == 0:
            return "nothing to pick"
        k, size, _ = _sizes(region)
        if is_symbolic(k, size) and sh.compare(dim_of(size), dim_of(k)) != 1:
            return "k may be more than there is"
        if highest(region.operand(0).view.count) >= 1 << 31:
            return "more elements than an i32 counts"
        return None

    def space(self, region: Region, target: Target) -> list[None]:
        return [None]

    def cost(self, region: Region, params: None, target: Target) -> float:
        k, size, rows = _sizes(region)
        levels = max(1, k.bit_length())
        kept = k * (1 + max(0, (size // k).bit_length()))  # of elements in random order
        cycles = rows * (_LOOK * size + _SIFT * levels * (kept + k))
        return cycles / (target.ghz * 1e9) + memory_seconds(region, target) + 1e-7

    def emit(self, region: Region, params: None, target: Target) -> Emitted:
        k, size, rows = _sizes(region)
        assert isinstance(region.op, TopK)
        x, kind = region.operand(0).view, held(region.operand(0).view.dtype)
        axis = region.op.axis % len(x.shape)
        w = Writer()
        w(f"{x.dtype.c} *y0 = a->p[0];", "int64_t *y1 = a->p[1];", f"const {x.dtype.c} *x0 = a->p[2];")
        w(f"{kind.c} *best = (void *)a->scratch;")
        at = -(-k * kind.size // 64) * 64
        w(f"int32_t *where = (void *)((char *)a->scratch + {at});")
        with walk_rows(w, [("y0", region.outs[0]), ("y1", region.outs[1]), ("x0", x)], {axis}) as (y, z, row):
            _fill(w, k, size, row, x.strides[axis], x.dtype, region.op.largest)
            _unload(w, k, (y, region.outs[0].strides[axis]), (z, region.outs[1].strides[axis]), row, x.strides[axis])
        helper = _SIFT_DOWN.format(c=kind.c, name=_name(kind, region.op.largest), worse=_worse(kind, region.op.largest))
        body = w.text().replace("@sift", _name(kind, region.op.largest))
        return Emitted(body, (Out(0), Out(1), In(0)), rows, at + -(-4 * k // 64) * 64, (helper,))


def _sizes(region: Region) -> tuple[int, int, int]:
    """k, length of a row, number of rows."""
    assert isinstance(region.op, TopK)
    x = region.operand(0).view
    size = x.shape[region.op.axis]
    return extents((region.op.k,))[0], size, x.count // size


def _name(kind: DType, largest: bool) -> str:
    return f"strop_sift_{kind.name}_{'largest' if largest else 'smallest'}"


def _better(a: str, b: str, kind: DType, largest: bool) -> str:
    """C text of whether a value comes before another one, whatever their places are."""
    first, second = (a, b) if largest else (b, a)
    text = f"{first} > {second}"
    return f"({text} || ({first} != {first} && {second} == {second}))" if kind.is_float else f"({text})"


def _worse(kind: DType, largest: bool) -> str:
    """C text of whether entry i is worse than entry j."""
    ahead = _better("best[i]", "best[j]", kind, largest)
    behind = _better("best[j]", "best[i]", kind, largest)
    return f"({behind} || (!{ahead} && where[i] > where[j]))"


#: Lets the entry at the root sink until the worst of all is there again.
_SIFT_DOWN = """static inline bool {name}_worse(const {c} *best, const int32_t *where, int64_t i, int64_t j) {{
  return {worse};
}}
static inline void {name}({c} *best, int32_t *where, int64_t root, int64_t count) {{
  for (int64_t child; (child = 2 * root + 1) < count; root = child) {{
    if (child + 1 < count && {name}_worse(best, where, child + 1, child)) child++;
    if (!{name}_worse(best, where, child, root)) return;
    const {c} value = best[root];
    const int32_t at = where[root];
    best[root] = best[child], where[root] = where[child];
    best[child] = value, where[child] = at;
  }}
}}
"""


def _fill(w: Writer, k: int, size: int, row: str, stride: int, dtype: DType, largest: bool) -> None:
    """The first k elements as a heap, then every other one that is better than its root in the root's place."""
    kind = held(dtype)
    with w.loop("j", k):
        w(f"best[j] = {from_memory(f'{row}[j * {stride}]', dtype)};", "where[j] = (int32_t)j;")
    with w.block(f"for (int64_t j = {k // 2} - 1; j >= 0; j--)"):
        w(f"@sift(best, where, j, {k});")
    with w.loop("j", size, start=k):
        w(f"const {kind.c} v = {from_memory(f'{row}[j * {stride}]', dtype)};")
        with w.block(f"if {_better('v', 'best[0]', kind, largest)}"):
            w("best[0] = v, where[0] = (int32_t)j;", f"@sift(best, where, 0, {k});")


def _unload(
    w: Writer, k: int, values: tuple[str, int], indices: tuple[str, int], row: str, stride: int
) -> None:
    """The worst entry is the last result; taking it away brings up the next."""
    with w.block(f"for (int64_t j = {k} - 1; j >= 0; j--)"):
        w(f"{values[0]}[j * {values[1]}] = {row}[where[0] * (int64_t){stride}];")
        w(f"{indices[0]}[j * {indices[1]}] = where[0];")
        w("best[0] = best[j], where[0] = where[j];", "@sift(best, where, 0, j);")


KERNEL = TopKHeap()
