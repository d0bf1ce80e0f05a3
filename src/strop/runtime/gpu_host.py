"""The processor's side of an engine for a GPU: its native context, which calls the parts that the GPU does, and what crosses.

A run is a call of the native context. Where that comes to a part, it calls back on the same thread; the part's operands go to the device, its CUDA
graph is launched, its results come back, and the processor goes on. The native context's memory is pinned.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any, TypeAlias

import numpy as np

from strop.engine.parts import CALL, Shared
from strop.errors import CustomError, EngineFileError
from strop.runtime.arena_pool import ArenaPool
from strop.runtime.callbacks import CustomCall, register_callback
from strop.runtime.context import StepTime
from strop.runtime.gpu_driver import Device
from strop.runtime.ports import Array
from strop.runtime.session import Session

_ALIGNMENT = 4096


#: (device address, bytes) of what a part is brought, and of what is fetched.
Crossing: TypeAlias = tuple[list[tuple[int, int]], list[tuple[int, int]]]


class _Pinned(ArenaPool):
    """Memory of one context, which the device copies from and to by itself."""

    def __init__(self, gpu: Device) -> None:
        """Takes memory when the context tells how much it needs."""
        self._gpu = gpu
        self._address = self.size = 0

    def check(self, need: int, where: str) -> None:
        """Takes the memory."""
        self._address, self.size = self._gpu.pinned(need + _ALIGNMENT), need

    @contextmanager
    def lease(self, need: int) -> Iterator[int]:
        """The address; one run at a time."""
        yield -(-self._address // _ALIGNMENT) * _ALIGNMENT

    def free(self) -> None:
        """Gives the memory back."""
        if self._address:
            self._gpu.unpin(self._address)


class HostSide:
    """What a context of the GPU has of the processor.

    Attributes:
        shared: the parts, and whose inputs and outputs are.
        computed: per output whether data decides over its shape.
    """

    def __init__(self, gpu: Device, stream: Any, session: Session, shared: Shared) -> None:
        self.shared = shared
        self._gpu, self._stream = gpu, stream
        self._pinned = _Pinned(gpu)
        self._where = session.where
        self._context = session.context(arenas=self._pinned)
        self.computed = [tensor.is_computed for tensor in session.outputs]
        self._graphs: Sequence[Any] = ()
        self._rows: list[Crossing] = []
        self._failure: BaseException | None = None

    def rooms(self) -> list[tuple[int, ...]]:
        """The shape of the array that each output needs: a flat one where data decides."""
        return [array.shape for array in self._context.new_outputs().values()]

    def prepare(self, graphs: Sequence[Any], crossings: Sequence[Crossing], inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Binds what a run needs.

        Args:
            graphs: CUDA graph per part.
            crossings: per part what is brought and what is fetched.
            inputs, outputs: pinned arrays by name.
        """
        self._graphs = graphs
        self._rows = list(crossings)
        self._inputs = dict(inputs)
        self._bound = self._context.bind(self._inputs, dict(outputs))

    def run(self) -> None:
        """Runs the network on the pinned inputs; everything that its parts do on the device is over then."""
        self._within(self._bound)

    def profile(self, runs: int) -> tuple[StepTime, ...]:
        """Times of the processor's steps and the calls."""
        times: tuple[StepTime, ...] = self._within(lambda: self._context.profile(self._inputs, runs=runs))
        return times

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the outputs as the last run found them."""
        return self._context.output_shapes()

    def _within(self, call: Callable[[], Any]) -> Any:
        before = getattr(_running, "side", None)
        _running.side, self._failure = self, None
        try:
            return call()
        except CustomError:
            if self._failure is not None:
                raise self._failure from None
            raise
        finally:
            _running.side = before

    def _crossing(self, number: int, call: CustomCall) -> Crossing:
        """What a part is brought and what is fetched; both sides of the engine agree on it."""
        found = self._rows[number] if 0 <= number < len(self._rows) else ([], [])
        sizes = [[0 if array is None else array.nbytes for array in arrays] for arrays in (call.inputs, call.outputs)]
        if number >= len(self._rows) or sizes != [[size for _, size in rows] for rows in found]:
            raise unfit(self._where, f"part {number} with operands of {sizes[0]} and results of {sizes[1]} bytes")
        return found

    def part(self, number: int, call: CustomCall) -> None:
        """Does a part on the device and waits for it."""
        gpu, stream = self._gpu, self._stream
        try:
            brought, fetched = self._crossing(number, call)
            for (pointer, size), array in zip(brought, call.inputs, strict=True):
                assert array is not None
                gpu.to_device(pointer, array.ctypes.data, size, stream)
            gpu.call("cuGraphLaunch", self._graphs[number], stream)
            for (pointer, size), array in zip(fetched, call.outputs, strict=True):
                gpu.to_host(array.ctypes.data, pointer, size, stream)
            gpu.call("cuStreamSynchronize", stream)
        except BaseException as failure:
            self._failure = failure
            raise

    def close(self) -> None:
        """Gives everything back."""
        self._context.close()
        self._pinned.free()
        for graph in self._graphs:
            self._gpu.call("cuGraphExecDestroy", graph)


_running = threading.local()


def _call(call: CustomCall) -> None:
    side: HostSide | None = getattr(_running, "side", None)
    if side is None:
        raise CustomError("a part for the GPU is called outside of an engine for a GPU", where=call.layer)
    side.part(int(json.loads(call.attributes)["part"]), call)


register_callback(CALL, _call)


def unfit(where: str, got: str) -> EngineFileError:
    """The error for an engine whose two sides do not belong together."""
    return EngineFileError(
        "what the GPU and the processor do does not fit together", where=where, got=got, expected="two sides of one engine", hint="build the engine again"
    )


def trimmed(array: Array, shape: tuple[int, ...]) -> Array:
    """What a run has found of a flat array."""
    return np.asarray(array).reshape(-1)[: prod(shape)].reshape(shape)
