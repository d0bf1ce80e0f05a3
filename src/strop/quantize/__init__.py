"""Reduced precision: which values of a portable graph become integers or 16-bit floats, and in which ranges."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from strop.errors import OptionError


def prepare_qat(
    module: Any,
    example_inputs: Sequence[Any] | Mapping[str, Any],
    *,
    layer_precision: Mapping[str, str] | None = None,
    ranges: Any = None,
    observer: str = "moving_average",
    momentum: float = 0.9,
) -> Any:
    """A copy of a PyTorch module for quantization-aware training: it computes in floats what int8 kernels compute in integers.

    The module is read and optimized as ``strop.build`` does, so that batch norms are folded and integers flow where they will flow in the
    engine; weights are rounded per output channel, activations per value, and gradients pass the rounding. Weights and biases are parameters.
    In training mode ranges follow the data, in evaluation mode they stay.

    ``strop.build(qat, precision="int8")`` makes an engine with the weights and the ranges that were trained.

    Args:
        module: a ``torch.nn.Module``; a copy of it in evaluation mode is read.
        example_inputs: its positional arguments, or its keyword arguments as a dict. Their first axis is the batch and stays free.
        layer_precision: as of ``strop.build``: fp32 for layers that stay floats.
        ranges: a range table to start from, as ``strop.calibrate`` makes; without, that of the first batches.
        observer: ``moving_average`` of the least and greatest numbers of each batch, or ``learned`` by gradients (as in Esser et al., 2020), from
            ``ranges`` or the first batch on.
        momentum: of the moving average: the share that the past has.

    Returns:
        A ``strop.engine.qat.QatModule``, a ``torch.nn.Module`` with the arguments of ``module`` and tuples for nested results.

    Raises:
        OptionError: torch is not installed, or an option is unusable.
        UnsupportedError: an op that has no meaning here.
        ModelError: PyTorch cannot export the module.
    """
    if find_spec("torch") is None:
        raise OptionError(
            "the package torch is not installed", where="prepare_qat", expected="the package torch, which trains", hint="pip install 'strop[torch]'"
        )
    return import_module("strop.engine.qat").prepare(module, example_inputs, layer_precision, ranges, observer, momentum)
