"""ITensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from strop.compat.tensorrt.basics import Dims, own_dtype, their_dtype
from strop.compat.tensorrt.enums import DataType, TensorFormat, TensorLocation
from strop.errors import StropError
from strop.frontend import network as nw


class ITensor:
    """A tensor of a network."""

    def __init__(self, network: Any, own: nw.Tensor) -> None:
        self.network, self.own = network, own
        self.dynamic_range: Any = None
        self.location = TensorLocation.DEVICE
        self.allowed_formats = 1 << int(TensorFormat.LINEAR)
        self._wanted: Any = None

    @property
    def name(self) -> str:
        return self.own.name

    @name.setter
    def name(self, value: str) -> None:
        try:
            self.own.name = value
        except StropError as error:
            self.network.failed(error)

    @property
    def shape(self) -> Any:
        try:
            return Dims(self.own.shape)
        except StropError as error:
            self.network.failed(error)
            return Dims()

    @shape.setter
    def shape(self, value: Sequence[int]) -> None:
        net = self.own.network
        net.declare(self.own, net.declared(self.own)[0], tuple(value))  # type: ignore[attr-defined]

    @property
    def dtype(self) -> Any:
        if self._wanted is not None:
            return self._wanted
        try:
            return their_dtype(self.own.dtype)
        except StropError as error:
            self.network.failed(error)
            return DataType.FLOAT

    @dtype.setter
    def dtype(self, value: Any) -> None:
        net = self.own.network
        if self.own.producer is None:
            net.declare(self.own, own_dtype(value), net.declared(self.own)[1])  # type: ignore[attr-defined]
        else:
            self.network.output_types[self.own] = own_dtype(value)
            self._wanted = value

    is_network_input = property(lambda self: self.own.producer is None)
    is_network_output = property(lambda self: self.own in self.own.network.outputs)
    is_execution_tensor = property(lambda self: True)
    broadcast_across_batch = property(lambda self: False, lambda self, value: None)

    @property
    def is_shape_tensor(self) -> bool:
        """Whether it holds sizes."""
        return isinstance(self.own.producer, nw.Shape)

    def set_dynamic_range(self, min: float, max: float) -> bool:
        """Range for INT8."""
        self.dynamic_range = (float(min), float(max))
        return True

    def reset_dynamic_range(self) -> None:
        """Forgets the range."""
        self.dynamic_range = None

    def set_dimension_name(self, index: int, name: str) -> None:
        """Names a free axis: axes of one name have one size."""
        self.own.axis_names[index] = name

    def get_dimension_name(self, index: int) -> str | None:
        """The name of an axis."""
        return self.own.axis_names.get(index)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ITensor) and other.own is self.own

    def __hash__(self) -> int:
        return id(self.own)
