"""The literal order of the portable rewrites, and the driver that runs and verifies them."""

from __future__ import annotations

from types import ModuleType

from strop.ir.graph import Graph
from strop.ir.text import show
from strop.ir.verify import verify
from strop.optimize import (
    cancel_transposes,
    canonicalize,
    collect_splits,
    commute_pools,
    eliminate_common,
    eliminate_concat,
    eliminate_dead,
    eliminate_noops,
    fold_batchnorm,
    fold_constants,
    fold_dequantized,
    fold_pad,
    fold_scale,
    hoist_gathers,
    hoist_reshapes,
    hoist_slices,
    hoist_splits,
    merge_horizontal,
    recognize_attention,
    recognize_dequantize,
    recognize_gelu,
    recognize_hardswish,
    recognize_layernorm,
    recognize_silu,
)
from strop.optimize.base import Options
from strop.trace import Trace

#: Modules with a ``NAME`` and a ``run``, in the order in which they run. A pass may run again.
PASSES: tuple[ModuleType, ...] = (
    eliminate_dead,
    recognize_dequantize,
    hoist_gathers,  # before a table is computed whole
    fold_constants,
    eliminate_noops,
    canonicalize,
    eliminate_common,
    fold_dequantized,
    recognize_layernorm,
    recognize_gelu,
    recognize_hardswish,
    recognize_silu,
    fold_batchnorm,
    fold_scale,
    recognize_attention,
    fold_constants,
    cancel_transposes,
    canonicalize,
    eliminate_noops,
    fold_scale,
    fold_pad,
    commute_pools,
    eliminate_common,
    merge_horizontal,
    fold_scale,
    collect_splits,
    hoist_splits,
    hoist_reshapes,
    hoist_slices,
    eliminate_concat,
    fold_constants,
    eliminate_noops,
    canonicalize,
    eliminate_common,
    fold_scale,
    eliminate_dead,
)


def optimize(graph: Graph, trace: Trace, options: Options | None = None) -> Graph:
    """The portable form of an imported graph.

    The graph is verified on entry and after every pass, and its text is dumped after every pass as
    ``optimize.<pass>.ir``. With the patch fuel of ``STROP_PATCHES`` used up the result is correct but
    need not be in portable form.

    Args:
        graph: the imported graph; it is not changed.
        trace: records patches, times and dumps.
        options: None means the defaults.

    Returns:
        A new graph that shares constant arrays with the given one.

    Raises:
        VerifyError: the graph or a pass broke the specification of its stage.
    """
    verify(graph, "imported")
    result = graph.clone()
    options = options or Options()
    for number, module in enumerate(PASSES):
        trace.report("optimize", number, len(PASSES))
        module.run(result, trace, options)
        verify(result, "imported")
        trace.dump(f"optimize.{module.NAME}.ir", lambda: show(result))
    trace.report("optimize", len(PASSES), len(PASSES))
    if trace.may_patch():
        verify(result, "portable")
    return result
