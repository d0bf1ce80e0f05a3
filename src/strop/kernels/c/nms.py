"""Non-maximum suppression: per image and class a heap of the scores above the threshold; its best box is kept unless it overlaps one kept before."""

from __future__ import annotations

from strop.kernels.base import Emitted, In, Kernel, Out, Region, memory_seconds
from strop.kernels.c.writer import Writer, address, define
from strop.ops.select import NonMaxSuppression
from strop.target.base import Target

#: Cycles assumed per score, and per candidate that is taken from the heap.
_LOOK, _TAKE = 3.0, 200.0


class Suppression(Kernel[None]):
    """See the module's text."""

    name = "nms"
    symbolic = True
    empty = True

    def accepts(self, region: Region, target: Target) -> str | None:
        if not isinstance(region.op, NonMaxSuppression):
            return "the anchor is not non_max_suppression"
        return None if region.out.is_dense() else "the result is not row-major"

    def space(self, region: Region, target: Target) -> list[None]:
        return [None]

    def cost(self, region: Region, params: None, target: Target) -> float:
        scores = region.operand(1).view.count
        cycles = (_LOOK + 0.1 * _TAKE) * scores
        return cycles / (target.ghz * 1e9) + memory_seconds(region, target) + 1e-7

    def emit(self, region: Region, params: None, target: Target) -> Emitted:
        assert isinstance(region.op, NonMaxSuppression)
        boxes, scores = region.operand(0).view, region.operand(1).view
        images, kinds, count = scores.shape
        helpers: list[str] = []
        sift = define(helpers, "strop_sift_scores", _SIFT)
        overlap = define(helpers, "strop_overlap", _OVERLAP, "float")
        w = Writer()
        w("const float *boxes = a->p[0], *scores = a->p[1];", "int64_t *y = a->p[2], kept = 0;")
        w("const int64_t most = *(const int64_t *)a->p[4];")
        w("const float limit = *(const float *)a->p[5], least = *(const float *)a->p[6];")
        w(f"float *score = a->scratch, *corners = score + {count};", f"int32_t *number = (int32_t *)(corners + 5 * {count});")
        with w.loop("n", images), w.loop("c", kinds):
            w(f"const float *row = scores + {address('', ('n', scores.strides[0]), ('c', scores.strides[1]))};")
            w(f"const float *box = boxes + {address('', ('n', boxes.strides[0]))};")
            w("int64_t waiting = 0, chosen = 0;")
            with w.loop("i", count):
                w(f"const float v = row[{address('', ('i', scores.strides[2]))}];")
                w("if (v > least) score[waiting] = v, number[waiting++] = (int32_t)i;")
            w(f"for (int64_t j = waiting / 2 - 1; j >= 0; j--) {sift}(score, number, j, waiting);")
            with w.block("while (waiting > 0 && chosen < most)"):
                w("const int64_t i = number[0];", f"const float *b = box + {address('', ('i', boxes.strides[1]))};")
                w("waiting--;", "score[0] = score[waiting], number[0] = number[waiting];", f"{sift}(score, number, 0, waiting);")
                w("float *own = corners + 5 * chosen;")
                self._corners(w, region.op.center, boxes.strides[2])
                w("bool stays = true;")
                w(f"for (int64_t j = 0; j < chosen && stays; j++) stays = !({overlap}(own, corners + 5 * j) > limit);")
                with w.block("if (stays)"):
                    w("y[3 * kept] = n, y[3 * kept + 1] = c, y[3 * kept + 2] = i;", "kept++, chosen++;")
        w("*(int64_t *)a->p[3] = kept;")
        pointers = (In(0), In(1), Out(0), Out(1), In(2), In(3), In(4))
        return Emitted(w.text(), pointers, 1, 28 * count + 64, tuple(helpers))

    @staticmethod
    def _corners(w: Writer, center: bool, step: int) -> None:
        """Two corners of box b, the lower first, and its area."""
        at = [f"b[{k * step}]" for k in range(4)]
        for k in range(2):
            if center:
                w(f"own[{k}] = {at[k]} - {at[k + 2]} / 2, own[{k + 2}] = {at[k]} + {at[k + 2]} / 2;")
            else:
                w(f"own[{k}] = {at[k]}, own[{k + 2}] = {at[k + 2]};")
            w(f"if (own[{k}] > own[{k + 2}]) {{ const float t = own[{k}]; own[{k}] = own[{k + 2}], own[{k + 2}] = t; }}")
        w("own[4] = (own[2] - own[0]) * (own[3] - own[1]);")


#: Lets the entry at the root sink until the best of all is there again; of equal scores the lower number is better.
_SIFT = """(float *score, int32_t *number, int64_t root, int64_t count) {
  for (int64_t child; (child = 2 * root + 1) < count; root = child) {
    const int64_t other = child + 1;
    if (other < count && (score[other] > score[child] || (score[other] == score[child] && number[other] < number[child])))
      child = other;
    if (score[root] > score[child] || (score[root] == score[child] && number[root] < number[child])) return;
    const float s = score[root];
    const int32_t n = number[root];
    score[root] = score[child], number[root] = number[child];
    score[child] = s, number[child] = n;
  }
}
"""

#: Intersection over union of two boxes given by corners and area.
_OVERLAP = """(const float *p, const float *q) {
  const float low0 = p[0] > q[0] ? p[0] : q[0], high0 = p[2] < q[2] ? p[2] : q[2];
  const float low1 = p[1] > q[1] ? p[1] : q[1], high1 = p[3] < q[3] ? p[3] : q[3];
  if (high0 <= low0 || high1 <= low1) return 0;
  const float both = (high0 - low0) * (high1 - low1), all = p[4] + q[4] - both;
  return all > 0 ? both / all : both;
}
"""

KERNEL = Suppression()
