"""Turns inference-time batch normalization into a scale and a shift, inside the weights where possible.

Before:
    y = batch_norm(conv(x, w, b), scale, bias, mean, var)
After:
    y = conv(x, w * s, b * s + t)   with s = scale / sqrt(var + epsilon), t = bias - mean * s
    in float64, rounded once; without a convolution before it: y = add(mul(x, s), t), which later
    passes fold into their neighbours and kernels into theirs.
Unless:
    an operand is not constant, a result would not be finite, or the rank is below 2. The weights are
    only changed when they are constant and nothing else reads the convolution's result.
"""

from __future__ import annotations

import numpy as np

from strop.ir.graph import Graph
from strop.ir.match import Match, Patch, any_value, const, op, optional, rewrite, rule
from strop.ir.op import Array
from strop.ops.elementwise import make
from strop.optimize.base import Options, narrow, wide
from strop.optimize.weights import scaled_conv
from strop.trace import Trace

NAME = "fold_batchnorm"

PARAMS = (const("scale"), const("bias"), const("mean"), const("var"))


def _scale_and_shift(m: Match) -> tuple[Array, Array]:
    """s and t in float64, one per channel."""
    scale, bias, mean, var = (wide(m.array(name)) for name in ("scale", "bias", "mean", "var"))
    with np.errstate(all="ignore"):
        s = scale / np.sqrt(var + m.root.op.attributes()["epsilon"])
        return s, bias - mean * s


@rule(
    op(
        "batch_norm",
        op(
            ("conv", "conv_transpose"),
            any_value("x"),
            const("w"),
            optional(const("b")),
            name="inner",
            single_use=True,
            where=lambda n: n.op.attributes().get("layout", "NCHW") == "NCHW",
        ),
        *PARAMS,
    )
)
def into_convolution(m: Match) -> Patch | None:
    """The convolution before it takes scale and shift into its weights and bias."""
    return scaled_conv(m, m.node("inner"), *_scale_and_shift(m))


@rule(op("batch_norm", any_value("x"), *PARAMS))
def into_scale_and_shift(m: Match) -> Patch | None:
    """One multiplication and one addition per element."""
    rank = len(m["x"].shape)
    arrays = [narrow(a, m["x"].dtype) for a in _scale_and_shift(m)]
    if arrays[0] is None or arrays[1] is None:
        return None
    patch = Patch(m.graph)
    s, t = (
        patch.const(a.reshape(-1, *[1] * (rank - 2)), f"{m.root.name}.{what}")
        for a, what in zip(arrays, ("scale", "shift"), strict=True)
        if a is not None
    )
    scaled = patch.add(make("mul"), m["x"], s, name=f"{m.root.name}.scaled")
    return patch.replace_if_same(m.root.output, patch.add(make("add"), scaled, t))


def run(graph: Graph, trace: Trace, options: Options) -> None:
    """Runs the pass."""
    rewrite(graph, (into_convolution, into_scale_and_shift), trace, NAME)
