"""The kernel table: dispatch, tuning, correctness sweeps, benchmarks and docs iterate it. One line per kernel."""

from __future__ import annotations

from typing import Any

from strop.ir import shape as sh
from strop.kernels.base import Candidate, Kernel, Region
from strop.kernels.c import (
    attention,
    conv_bf16,
    conv_depthwise,
    conv_depthwise_dot,
    conv_depthwise_int8,
    conv_direct,
    conv_dot,
    conv_int8,
    conv_int8_pairs,
    conv_int8_pipelined,
    conv_int8_small,
    conv_int16,
    conv_strassen,
    conv_transpose,
    conv_winograd,
    copy,
    cumulative,
    custom,
    elementwise,
    gather,
    matmul,
    matmul_dot,
    matmul_mixed,
    naive,
    nms,
    non_zero,
    norm,
    norm_channels,
    norm_lrn,
    pad,
    pool,
    recurrent,
    reduce,
    reduce_arg,
    resize,
    softmax,
    top_k,
    unique,
)
from strop.kernels.cuda_libraries import cublaslt, cudnn
from strop.kernels.extent import SymbolicError, dim_of, is_symbolic, lowest
from strop.kernels.triton import (
    channel_pad,
    conv_gemm,
    conv_transpose_phases,
    depthwise,
    flash_attention,
    fold,
    gather_runs,
    gemm,
    loops,
    norm_rows,
    pointwise,
    pooling,
    recurrent_persistent,
    recurrent_steps,
    resize_taps,
    softmax_rows,
    top_k_rows,
)
from strop.target.base import Target
from strop.target.cuda import is_gpu

#: Kernels in C, for processors.
KERNELS: tuple[Kernel[Any], ...] = (
    attention.KERNEL,
    conv_bf16.KERNEL,
    conv_depthwise.KERNEL,
    conv_depthwise_int8.KERNEL,
    conv_depthwise_dot.KERNEL,
    conv_direct.KERNEL,
    conv_dot.KERNEL,
    conv_int16.KERNEL,
    conv_int8.KERNEL,
    conv_int8_pairs.KERNEL,
    conv_int8_pipelined.KERNEL,
    conv_int8_small.KERNEL,
    conv_strassen.KERNEL,
    conv_transpose.KERNEL,
    conv_winograd.KERNEL,
    copy.KERNEL,
    cumulative.KERNEL,
    custom.KERNEL,
    custom.LIBRARY,
    custom.CALLBACK,
    elementwise.KERNEL,
    gather.KERNEL,
    resize.KERNEL,
    matmul.KERNEL,
    matmul_dot.KERNEL,
    matmul_mixed.KERNEL,
    norm.KERNEL,
    norm_channels.KERNEL,
    norm_lrn.KERNEL,
    pad.KERNEL,
    pool.KERNEL,
    recurrent.KERNEL,
    reduce.KERNEL,
    reduce_arg.KERNEL,
    softmax.KERNEL,
    top_k.KERNEL,
    non_zero.KERNEL,
    unique.KERNEL,
    nms.KERNEL,
    naive.KERNEL,
)

#: Kernels in Triton, for GPUs.
GPU_KERNELS: tuple[Kernel[Any], ...] = (
    channel_pad.KERNEL,
    conv_gemm.KERNEL,
    conv_transpose_phases.KERNEL,
    depthwise.KERNEL,
    flash_attention.KERNEL,
    fold.KERNEL,
    gather_runs.KERNEL,
    gemm.KERNEL,
    norm_rows.KERNEL,
    pointwise.KERNEL,
    pooling.KERNEL,
    recurrent_persistent.KERNEL,
    recurrent_steps.KERNEL,
    resize_taps.KERNEL,
    softmax_rows.KERNEL,
    top_k_rows.KERNEL,
    loops.KERNEL,
)

#: Calls of libraries, for GPUs whose target allows them.
GPU_LIBRARIES: tuple[Kernel[Any], ...] = (
    cublaslt.KERNEL,
    cudnn.KERNEL,
)


def kernels_for(target: Target) -> tuple[Kernel[Any], ...]:
    """The kernels that make code for a target."""
    if not is_gpu(target):
        return KERNELS
    return (*GPU_KERNELS, *GPU_LIBRARIES) if target.libraries else GPU_KERNELS


def candidates(region: Region, target: Target) -> list[Candidate]:
    """Everything that can do the region, cheapest by the cost model first, behind all others what has no estimate; stable for equal costs."""
    typical = region.typical()
    found = [
        candidate
        for kernel in kernels_for(target)
        if _declined(kernel, region, target) is None
        for params in kernel.space(typical, target)
        if (candidate := Candidate(kernel, params))
        if typical is region or _unwritten(candidate, region, target) is None
    ]
    return sorted(found, key=lambda c: (not c.kernel.estimated, c.cost(typical, target)))


def _unwritten(candidate: Candidate, region: Region, target: Target) -> str | None:
    """Why the candidate's code cannot be written for symbolic dims; None when it can."""
    try:
        candidate.emit(region, target)
    except SymbolicError as error:
        return str(error)
    return None


def refusal(kernel: Kernel[Any], region: Region, target: Target) -> str | None:
    """Why a kernel does not take a region; None when it does."""
    typical = region.typical()
    reason = _declined(kernel, region, target)
    if reason is not None or typical is region:
        return reason
    reasons = [_unwritten(Candidate(kernel, p), region, target) for p in kernel.space(typical, target)]
    return reasons[0] if all(reasons) else None


def _declined(kernel: Kernel[Any], region: Region, target: Target) -> str | None:
    """What the kernel says before any code is written."""
    if region.has_prologue and not kernel.prologue:
        return "no prologue is applied here"
    if not kernel.empty and _may_read_nothing(region):
        return "an operand may be empty where the result is not"
    if not region.symbols:
        return kernel.accepts(region, target)
    if not kernel.symbolic:
        return "its code is made for fixed shapes"
    try:
        return kernel.accepts(region, target)
    except SymbolicError as error:
        return str(error)


def _may_read_nothing(region: Region) -> bool:
    """Whether an operand may have no elements while a result has some; a step without results runs no code at all."""
    for operand in region.operands:
        if operand is None or not operand.view.symbolic:
            continue
        may_be_empty = [d for d in operand.view.shape if is_symbolic(d) and lowest(d) < 1]
        # a result with an axis that is never longer is empty, too
        if any(all(sh.compare(dim_of(d), dim_of(other)) != 1 for other in out.shape) for d in may_be_empty for out in region.outs):
            return True
    return False


def refusals(region: Region, target: Target) -> dict[str, str]:
    """Reason per kernel that does not accept the region, for error messages and reports."""
    reasons = {kernel.name: refusal(kernel, region, target) for kernel in kernels_for(target)}
    return {name: reason for name, reason in reasons.items() if reason is not None}
