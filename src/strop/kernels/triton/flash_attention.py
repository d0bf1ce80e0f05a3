"""Attention without the matrix of scores in memory: keys and values pass by in blocks while maxima and sums of rows are kept.

After Dao et al., FlashAttention (2022): results are rescaled whenever a row's maximum grows. Exponentials are powers of two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from strop.ir import dtype as dt
from strop.kernels.base import Region
from strop.kernels.triton.emit import (
    Block,
    GpuEmitted,
    Launch,
    Tile,
    Writer,
    ceil_div,
    masked,
    power_of_two,
    times,
)
from strop.kernels.triton.parts import LAUNCH, GpuKernel, dot, finish, is_float, standard, traffic
from strop.ops.attention import Attention
from strop.target.base import Target

#: Longest vector of a query or value; from which length in bytes on few fit, and bytes of keys and values in flight that then do.
_WIDEST, _LONG, _IN_FLIGHT = 512, 1024, 128 * 1024


@dataclass(frozen=True)
class Params:
    """Queries and keys of a tile, warps, and stages of the pipeline."""

    queries: int
    keys: int
    warps: int
    stages: int


class FlashAttention(GpuKernel[Params]):
    """See the module's text."""

    name = "flash_attention"

    def takes(self, region: Region, target: Target) -> str | None:
        if not isinstance(region.op, Attention):
            return "it is no attention"
        views = [region.operand(k).view for k in range(3)]
        if not is_float(*views, region.out):
            return "it is not of floats"
        widths = (views[0].shape[-1], views[2].shape[-1])
        if max(widths) > _WIDEST or min(widths) < 1:
            return f"its vectors are longer than {_WIDEST}"
        return None if views[1].shape[-2] > 0 else "there are no keys"

    def space(self, region: Region, target: Target) -> list[Params]:
        queries = max(16, power_of_two(region.out.shape[-2]))
        keys = region.operand(1).view.shape[-2]
        widths = [power_of_two(region.operand(k).view.shape[-1]) * region.operand(k).view.dtype.size for k in (0, 2)]
        wide = widths[0] > 256
        if max(widths) >= _LONG:
            return [Params(16, bn, warps, 2) for bn in (16, 32) for warps in (4, 8) if 2 * bn * sum(widths) <= _IN_FLIGHT]
        return [
            Params(bm, bn, warps, stages)
            for bm in (16, 32, 64, 128)
            for bn in (32, 64, 128, 256)
            for warps in (4, 8)
            for stages in (2, 3)
            if bm <= queries and not (bm == 128 and warps == 4 and wide) and not (wide and bn > 64) and not (warps == 8 and bm < 64)
            and not (bn == 256 and (keys <= 128 or bm * bn > 128 * 32 * warps))
        ]

    def cost(self, region: Region, params: Params, target: Target) -> float:
        q, k, v = (region.operand(i).view.shape for i in range(3))
        lead = math.prod(q[:-2])
        programs = lead * ceil_div(q[-2], params.queries)
        resident = max(1, 12 // params.warps)
        rate = target.fma_lanes * (0.4 if params.queries >= 64 else 0.15) * (0.15 if region.out.dtype is dt.f32 else 1.0)
        work = params.queries * params.keys * (q[-1] + v[-1]) / rate + params.queries * params.keys / 40
        rounds = ceil_div(k[-2], params.keys)
        cycles = 2500 + rounds * max(work * resident, 700 / (params.stages - 1))
        return max(traffic(region, target), ceil_div(programs, target.cores * resident) * cycles / (target.ghz * 1e9) + LAUNCH)

    def launches(self, region: Region, params: Params, target: Target) -> GpuEmitted:
        op, w, p = region.op, Writer(), params
        assert isinstance(op, Attention)
        q, k, v = (region.operand(i).view for i in range(3))
        rank, keys = len(q.shape), k.shape[-2]
        wide, deep = max(16, power_of_two(q.shape[-1])), max(16, power_of_two(v.shape[-1]))
        lead = tuple(range(rank - 2))
        w("b = tl.program_id(1)", f"m = tl.program_id(0) * {p.queries} + tl.arange(0, {p.queries})")
        w(f"d = tl.arange(0, {wide})", f"n = tl.arange(0, {deep})", f"t = tl.arange(0, {p.keys})")
        m = Block("m", (rank - 2,), (q.shape[-2],), p.queries, q.shape[-2] % p.queries != 0)
        n = Block("n", (rank - 1,), (v.shape[-1],), deep, deep != v.shape[-1])
        b = Block("b", lead, q.shape[:-2], 0, False)
        tile = Tile(w, (m, n, b))
        starts = [b.offset(w, view.strides[:-2]) for view in (q, k, v)]
        starts = [f"{s} + " if s else "" for s in starts]
        inner = f"(d < {q.shape[-1]})" if wide != q.shape[-1] else ""
        w(f"q_tile = q + {starts[0]}{times('m[:, None]', q.strides[-2])} + {times('d[None, :]', q.strides[-1])}")
        w(f"x = tl.load(q_tile{_masked([f'(m < {q.shape[-2]})[:, None]'] * m.checked, [f'{inner}[None, :]'] * bool(inner))})")
        w(f"k_tile = k + {starts[1]}{times('t[None, :]', k.strides[-2])} + {times('d[:, None]', k.strides[-1])}")
        w(f"v_tile = v + {starts[2]}{times('t[:, None]', v.strides[-2])} + {times('n[None, :]', v.strides[-1])}")
        w(f"acc = tl.zeros(({p.queries}, {deep}), tl.float32)", f"total = tl.zeros(({p.queries},), tl.float32)")
        w(f'top = tl.full(({p.queries},), float("-inf"), tl.float32)')
        mask = region.operand(3).view.broadcast((*q.shape[:-1], keys)) if region.anchors > 3 and region.operands[3] is not None else None
        rounds, scale = ceil_div(keys, p.keys), f" * {op.scale * math.log2(math.e)!r}"
        folded = scale if mask is None and op.scale > 0 else ""  # into the subtraction of the maximum, as one multiply-add
        with w.block(f"for step in range({rounds})"):
            late = [f"(step * {p.keys} + t < {keys})"] if keys % p.keys else []
            w(f"y_k = tl.load(k_tile + step * {p.keys * k.strides[-2]}{_masked([f'{c}[None, :]' for c in late], [f'{inner}[:, None]'] * bool(inner))})")
            w(f"s = {dot('x', 'y_k', f'tl.zeros(({p.queries}, {p.keys}), tl.float32)', q.dtype, target)}{'' if folded else scale}")
            if mask is not None:
                place = [b.offset(w, mask.strides[:-2]), times("m[:, None]", mask.strides[-2]), times(f"(step * {p.keys} + t)[None, :]", mask.strides[-1])]
                place = [f for f in place if f and not f.endswith("* 0")]
                where = _masked([f"(m < {q.shape[-2]})[:, None]"] * m.checked, [f"{c}[None, :]" for c in late])
                text = f"tl.load({' + '.join(['mask', *place])}{where if len(place) else ''}).to(tl.float32)"
                w(f"s += {text} * {math.log2(math.e)!r}")
            hidden = [f"{c}[None, :]" for c in late]
            if op.causal:
                hidden.append(f"(step * {p.keys} + t[None, :] <= m[:, None])")
            if hidden:
                w(f's = tl.where({" & ".join(hidden)}, s, float("-inf"))')
            w(f"highest = tl.maximum(top, tl.max(s, 1){folded})")
            if mask is not None:
                w('level = tl.where(highest == float("-inf"), 0.0, highest)')
            level = "highest" if mask is None else "level"
            w(f"power = tl.exp2(s{folded} - {level}[:, None])", f"shrink = tl.exp2(top - {level})")
            w("total = total * shrink + tl.sum(power, 1)", "acc = acc * shrink[:, None]")
            w(f"y_v = tl.load(v_tile + step * {p.keys * v.strides[-2]}{_masked([f'{c}[:, None]' for c in late], [f'(n < {v.shape[-1]})[None, :]'] * n.checked)})")
            w(f"acc = {dot(f'power.to({_TYPES[v.dtype.name]})', 'y_v', 'acc', v.dtype, target)}", "top = highest")
        w("acc = acc / tl.where(total == 0.0, 1.0, total)[:, None]")
        finish(region, tile, "acc", dt.f32)
        anchors = [("q", 0), ("k", 1), ("v", 2), *([("mask", 3)] if mask is not None else [])]
        grid = (ceil_div(q.shape[-2], p.queries), math.prod(q.shape[:-2]), 1)
        return standard(region, anchors).emitted([Launch(w.text(), grid, p.warps, p.stages)])


_TYPES = {"f16": "tl.float16", "bf16": "tl.bfloat16", "f32": "tl.float32"}


def _masked(first: list[str], second: list[str]) -> str:
    return masked([*first, *second])


KERNEL = FlashAttention()
