"""What a converter is told: ``Optimize``, ``OpsSet``, ``TargetSpec``, ``RepresentativeDataset``, and element types of any library."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np


class Optimize(enum.Enum):
    """Which optimization is applied; all of the first three quantize."""

    DEFAULT = "DEFAULT"
    OPTIMIZE_FOR_SIZE = "OPTIMIZE_FOR_SIZE"
    OPTIMIZE_FOR_LATENCY = "OPTIMIZE_FOR_LATENCY"
    EXPERIMENTAL_SPARSITY = "EXPERIMENTAL_SPARSITY"

    def __str__(self) -> str:
        return str(self.value)


class OpsSet(enum.Enum):
    """Sets of operators that a device has."""

    TFLITE_BUILTINS = "TFLITE_BUILTINS"
    SELECT_TF_OPS = "SELECT_TF_OPS"
    TFLITE_BUILTINS_INT8 = "TFLITE_BUILTINS_INT8"
    EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8 = "EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8"
    EXPERIMENTAL_STABLEHLO_OPS = "EXPERIMENTAL_STABLEHLO_OPS"

    def __str__(self) -> str:
        return str(self.value)

    @staticmethod
    def get_options() -> list[str]:
        """The names."""
        return [str(option) for option in OpsSet]


class RepresentativeDataset:
    """Samples for calibration.

    Attributes:
        input_gen: a function that gives an iterable of lists of arrays, in the order of inputs, or of dicts by their names.
    """

    def __init__(self, input_gen: Callable[[], Iterable[Any]]) -> None:
        self.input_gen = input_gen


class TargetSpec:
    """The device that a model is for: see ``OpsSet``; ``supported_types`` are element types, of which the smallest decides."""

    def __init__(
        self, supported_ops: Iterable[OpsSet] | None = None, supported_types: Iterable[Any] | None = None,
        experimental_select_user_tf_ops: Iterable[str] | None = None, experimental_supported_backends: Iterable[str] | None = None,
    ) -> None:  # fmt: skip
        self.supported_ops: Any = {OpsSet.TFLITE_BUILTINS} if supported_ops is None else supported_ops
        self.supported_types: Any = set() if supported_types is None else supported_types
        self.experimental_select_user_tf_ops: Any = set() if experimental_select_user_tf_ops is None else experimental_select_user_tf_ops
        self.experimental_supported_backends = experimental_supported_backends


def dtype_name(given: Any) -> str:
    """The numpy name of an element type of TensorFlow, numpy or ``strop.compat.tflite.tensorflow``.

    Raises:
        TypeError: no element type.
    """
    return str(np.dtype(getattr(given, "as_numpy_dtype", given)))
