"""The least time of every step, and what it reaches of the multiply-adds that the cores can do in its precision.

Steps and multiply-adds are measured in turns, as a machine's clock wanders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

from numpy.typing import ArrayLike

from strop.engine.describe import StepReport, describe, precision_of
from strop.engine.engine import Engine
from strop.engine.layer_json import tensor
from strop.engine.roofline import MultiplyAdds
from strop.errors import StropError
from strop.runtime.context import Context
from strop.target.detect import host

#: Turns, and in each repetitions of the multiply-adds.
_TURNS, _REPEATS = 5, 2
#: Kinds of steps whose multiply-adds are counted.
_CONVS, _MATMULS = ("conv", "integer_conv", "mixed_conv"), ("matmul", "integer_matmul", "mixed_matmul")
#: Dtypes that a product's first factor may have, and the precision of the instructions that multiply it. Those of 16-bit floats other than bf16 are widened.
_PRECISIONS = {"f32": "fp32", "f16": "fp32", "bf16": "bf16", "u8": "int8", "i8": "int8"}


@dataclass(frozen=True)
class StepRate:
    """One step.

    Attributes:
        name: the layer it computes.
        nanoseconds: the least time it took.
        kernel: algorithm and parameters.
        operations: of its convolution or matrix product, epilogue not counted; a multiply-add counts 2. 0 for other steps.
        precision: whose multiply-adds ``of_peak`` is a share of: fp32, bf16 or int8; empty for other steps.
        of_peak: operations per second divided by the peak of the threads together. Above 1 where an algorithm needs fewer multiplications; None where no
            peak is known.
    """

    name: str
    nanoseconds: int
    kernel: str
    operations: int
    precision: str
    of_peak: float | None = None

    @property
    def rate(self) -> float:
        """Operations per second."""
        return 1e9 * self.operations / self.nanoseconds if self.nanoseconds else 0.0


def step_rates(engine: Engine, context: Context, inputs: Mapping[str, ArrayLike], runs: int) -> tuple[tuple[StepRate, ...], dict[str, float]]:
    """The steps, and the peaks in operations per second by precision: none for a GPU, or without a compiler.

    Args:
        engine: what the context runs.
        context: idle; its threads are those that the peaks are measured on.
        inputs: arrays by name.
        runs: of the network, at least 1.
    """
    adds = _multiply_adds(engine, context.threads)
    turns = min(_TURNS, runs) if adds is not None else 1
    found = []
    for turn in range(turns):
        if adds is not None:
            adds.measure(_REPEATS)
        found.append(context.profile(inputs, runs=runs * (turn + 1) // turns - runs * turn // turns))
    least = [min(times, key=lambda time: time.nanoseconds) for times in zip(*found, strict=True)]
    peaks = {} if adds is None else adds.rates
    return tuple(_rate(step, time.nanoseconds, peaks) for step, time in zip(describe(engine).steps, least, strict=True)), peaks


def _multiply_adds(engine: Engine, threads: int) -> MultiplyAdds | None:
    """Those of the cores; None for a GPU, or without a compiler."""
    if str(engine.manifest.get("target")).startswith("cuda:"):
        return None
    try:
        return MultiplyAdds(host(), threads, None)
    except StropError:
        return None


def _rate(step: StepReport, ns: int, peaks: Mapping[str, float]) -> StepRate:
    operations = _operations(step)
    precision = _PRECISIONS.get(precision_of(step), "") if operations else ""
    found = StepRate(step.name, ns, step.kernel, operations, precision)
    return replace(found, of_peak=found.rate / peaks[precision]) if precision in peaks and ns else found


def _operations(step: StepReport) -> int:
    """Of a convolution or matrix product of fixed shapes; 0 for all else."""
    if step.kind not in (*_CONVS, *_MATMULS) or len(step.inputs) < 2:
        return 0
    weight: list[int]
    out: list[int]
    weight, out = (tensor(view or "")["Dimensions"] for view in (step.inputs[1], step.outputs[0]))
    if not weight or not out or min(*weight, *out) < 0:
        return 0
    if step.kind in _CONVS:
        return 2 * prod(out) * prod(weight[1:])
    return 2 * prod(out) * prod(weight[-2:]) // out[-1]
