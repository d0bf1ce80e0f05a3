"""Known weights of 8 or 4 bits that meet floats: they are stored as bytes, and become floats in registers."""

from __future__ import annotations

import numpy as np

from strop.ir import dtype as dt
from strop.ir.op import Array
from strop.kernels.base import Packed, Region
from strop.kernels.triton.emit import Writer, ceil_div
from strop.kernels.triton.parts import Pointers
from strop.kernels.triton.product import Params
from strop.ops.mixed import MixedConv, MixedMatMul

#: Products with such weights.
MIXED = (MixedConv, MixedMatMul)


def add_groups(pointers: Pointers, region: Region, p: Params) -> None:
    """Adds what groups of weights are scaled by, ``scales``, and their zero points, ``zeros``: f32[groups, columns, a multiple of bn], with groups for all
    terms that are multiplied; nothing where there are no groups."""
    op = region.op
    if not isinstance(op, MIXED) or not op.group:
        return
    terms, columns = (region.operand(1).view.shape[axis] for axis in op.axes())
    groups, wide = ceil_div(ceil_div(terms, p.bk) * p.bk, op.group), ceil_div(columns, p.bn) * p.bn
    for name, number in zip(("scales", "zeros"), range(2, region.anchors), strict=False):

        def table(number: int = number) -> Array:
            array = region.operand(number).logical
            assert array is not None
            return np.pad(array, ((0, groups - array.shape[0]), (0, wide - array.shape[1])))

        pointers.packed(name, dt.f32, Packed(table))


def made_real(w: Writer, region: Region, p: Params, step: str, name: str) -> None:
    """Makes floats of a round's weights, a variable of shape [bk, bn]."""
    op = region.op
    assert isinstance(op, MIXED)
    if not op.group:
        w(f"{name} = {name}.to(tl.float32)")
        return
    columns = ceil_div(region.operand(1).view.shape[op.axes()[1]], p.bn) * p.bn
    row = f"({step} * {p.bk} // {op.group})" if op.group % p.bk == 0 else f"(({step} * {p.bk} + k) // {op.group})[:, None]"
    where = f"{row} * {columns} + n[None, :]"
    less = f" - tl.load(zeros + {where})" if region.anchors > 3 else ""
    w(f"{name} = ({name}.to(tl.float32){less}) * tl.load(scales + {where})")


def why_not(region: Region) -> str | None:
    """None for a product with known weights, else what speaks against it."""
    known = all(o is not None and o.const is not None for o in region.operands[1 : region.anchors])
    return None if known else "weights are not known"
