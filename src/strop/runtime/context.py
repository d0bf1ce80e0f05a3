"""One context of an engine: binds numpy arrays where they lie and runs."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from ctypes import addressof, byref, c_int64, c_uint64, c_void_p
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy import empty, ndarray
from numpy.typing import ArrayLike

from strop.errors import EngineFileError, InputError, RuntimeFailure
from strop.runtime.arena_pool import ArenaPool
from strop.runtime.binding import Binding
from strop.runtime.error_struct import ErrorStruct
from strop.runtime.library import Library, MemoryStruct, TensorStruct
from strop.runtime.ports import Array, Port, Slots, TensorInfo, check_names, list_of

Shapes: TypeAlias = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class StepInfo:
    """A kernel call of an engine: `tasks` pieces of work, dealt in multiples of `grain`."""

    name: str
    kernel: int
    tasks: int
    grain: int


@dataclass(frozen=True)
class StepTime:
    """A step and the least time that it took in any run of a profile."""

    name: str
    nanoseconds: int


@dataclass(frozen=True)
class MemoryFigures:
    """Bytes: weights are shared by all contexts, arena and scratch are one context's own."""

    weights: int
    arena: int
    scratch: int


@dataclass(frozen=True)
class EngineView:
    """What a context needs to know of its engine.

    `keep` is whatever the engine's memory belongs to.
    """

    where: str
    lib: Library
    handle: c_void_p
    keep: object
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    step_names: tuple[str, ...]
    #: Runs are expected to be so short that they need not release the interpreter lock.
    brief: bool = False


class Context:
    """Memory and threads to run an engine with. One thread may use it at a time.

    Attributes:
        threads: how many threads a run uses.
    """

    def __init__(self, engine: EngineView, threads: int, arenas: ArenaPool | None = None) -> None:
        """Make a context; `threads` of 0 is one per processor that this process may use. With `arenas` it has no memory of its own
        and takes some out of the pool for as long as a run lasts.

        Raises:
            RuntimeFailure: no memory for the arena, or the threads cannot be started.
            OptionError: the pool is too small for the context.
        """
        self._engine = engine
        self._lib = engine.lib
        self._inputs = [Port(tensor, "input", engine.where) for tensor in engine.inputs]
        self._outputs = [Port(tensor, "output", engine.where) for tensor in engine.outputs]
        self._shapes = tuple(port.shape for port in self._inputs)
        self._is_dynamic = any(tensor.is_dynamic for tensor in engine.inputs)
        self._input_slots = Slots(len(self._inputs))
        self._output_slots = Slots(len(self._outputs))
        self._error = ErrorStruct()
        self._error_at = byref(self._error)
        self._handle = c_void_p()
        if arenas is not None and not hasattr(self._lib, "strop_context_create_lean"):
            raise EngineFileError(
                "the runtime in the engine file cannot share arenas", where=engine.where, hint="build the engine again with this version of Strop"
            )
        create = self._lib.strop_context_create if arenas is None else self._lib.strop_context_create_lean
        code = create(engine.handle, threads, byref(self._handle), self._error_at)
        self._lib.check(code, self._error, engine.where)
        self._finalizer = finalizer(
            self, self._lib.strop_context_destroy, self._handle, engine.keep
        )
        self.threads: int = self._lib.strop_context_threads(self._handle)
        self._call: Callable[..., int] = self._lib.strop_context_call
        self._arenas = arenas
        if arenas is not None:
            self._room: int = self._lib.strop_context_room(self._handle)
            arenas.check(self._room, engine.where)
            self._call = self._call_in_pool
        self._arguments = (
            self._handle,
            self._input_slots.pointers,
            self._output_slots.pointers,
            self._error_at,
        )
        self._lock = threading.Lock()
        #: Bindings that do not take it.
        self._held: weakref.WeakSet[Binding] = weakref.WeakSet()
        self._computed = [k for k, port in enumerate(self._outputs) if port.computed]
        self._update_outputs()

    # ---- running ----

    def __call__(self, *inputs: ArrayLike) -> Array | tuple[Array, ...]:
        """Run on positional inputs; one array, or a tuple when there are several outputs.

        Raises:
            InputError: the number of inputs, a dtype or a shape is wrong.
        """
        if len(inputs) != len(self._inputs):
            raise InputError(
                "wrong number of inputs",
                where=self._engine.where,
                got=len(inputs),
                expected=f"{len(self._inputs)}: {list_of(self._inputs)}",
            )
        outputs = self._run(inputs, None)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def run(
        self, inputs: Mapping[str, ArrayLike], *, out: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """Run on named inputs.

        Args:
            inputs: every input of the engine, by name. An array that is C-contiguous and aligned
                is read in place; others are copied. dtypes and shapes are never converted.
            out: arrays to write outputs into, by name: C-contiguous, and overlapping neither
                inputs nor each other; flat ones, for all that may be found, where data decides over
                the shape (see new_outputs). Outputs that are not in it are new arrays.

        Returns:
            Every output, by name.

        Raises:
            InputError: a name is missing or unknown, a dtype or a shape is wrong, or an array of
                `out` cannot be written in place.
            RuntimeFailure: the context is closed or in use by another thread.
        """
        arrays = self._by_position(inputs)
        given = None
        if out:
            check_names(out, self._outputs, self._engine.where)
            given = [out.get(port.name) for port in self._outputs]
        results = self._run(arrays, given)
        return {port.name: array for port, array in zip(self._outputs, results, strict=True)}

    def resize(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
        """Make the context run at another shape; run() and bind() do it by themselves when the arrays they are
        given have other shapes than those before. Nothing is allocated.

        Args:
            shapes: of every input, by name.

        Returns:
            The outputs' shapes, by name; of those that data decides over, what the last run found or would find of the least data.

        Raises:
            InputError: a name is missing or unknown, a dim is outside the engine's range, or two dims that must be
                equal are not. The context keeps its shape.
        """
        wanted: Mapping[str, Any] = shapes
        given = [tuple(int(dim) for dim in shape) for shape in self._by_position(wanted)]
        if not self._lock.acquire(False):
            raise self._busy()
        try:
            self._check_open()
            self._resize(tuple(given))
        finally:
            self._lock.release()
        return {port.name: port.shape for port in self._outputs}

    def new_outputs(self) -> dict[str, Array]:
        """New arrays that run() and bind() take for the outputs at the context's shape: flat ones where data decides over the shape."""
        return {port.name: empty(*kind) for port, kind in zip(self._outputs, self._output_types, strict=True)}

    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        """The outputs' shapes, by name; where data decides over them, what the last run found."""
        with self._lock:
            self._check_open()
            info = TensorStruct()
            for index in self._computed:
                self._ask(index, info)
                self._outputs[index].shape = tuple(info.dims[: info.rank])
        return {port.name: port.shape for port in self._outputs}

    def _resize(self, shapes: Shapes) -> None:
        """The context's and its ports' shapes, unless they are these already."""
        if shapes == self._shapes:
            return
        rows = []
        for port, shape in zip(self._inputs, shapes):
            if len(shape) != len(port.shape):
                raise port.wrong_shape(shape)
            rows.append((c_int64 * (len(shape) + 1))(*shape))
        table = (c_void_p * (len(rows) + 1))(*(addressof(row) for row in rows))
        code = self._lib.strop_context_resize(self._handle, table, self._error_at)
        self._lib.check(code, self._error, self._engine.where)
        for port, shape in zip(self._inputs, shapes):
            port.shape = shape
        self._update_outputs()
        self._shapes = shapes

    def _update_outputs(self) -> None:
        """What new arrays for outputs must be at the context's shape: where data decides over it, all the room there may be need of."""
        info = TensorStruct()
        types: list[tuple[tuple[int, ...], np.dtype[Any]]] = []
        for index, port in enumerate(self._outputs):
            self._ask(index, info)
            port.shape = tuple(info.dims[: info.rank])
            port.room = info.bytes // port.dtype.itemsize
            types.append(((port.room,) if port.computed else port.shape, port.dtype))
        self._output_types = types

    def _ask(self, index: int, info: TensorStruct) -> None:
        """What the runtime says about an output."""
        code = self._lib.strop_context_output_info(self._handle, index, byref(info), self._error_at)
        self._lib.check(code, self._error, self._engine.where)

    def _trim(self, outputs: list[Array]) -> None:
        """Gives outputs the shapes that the run has found."""
        info = TensorStruct()
        for index in self._computed:
            self._ask(index, info)
            shape = tuple(info.dims[: info.rank])
            outputs[index] = outputs[index][: prod(shape)].reshape(shape)

    def bind(self, inputs: Mapping[str, Array], out: Mapping[str, Array]) -> Binding:
        """Binds arrays where they lie, for calls that must cost as little as possible.

        Args:
            inputs: every input by name, C-contiguous and aligned: each run reads what they hold then.
            out: every output by name, as for run().

        Returns:
            A function without arguments that runs. It keeps the context and the arrays.

        Raises:
            InputError: a name is missing or unknown, or an array cannot be used in place.
        """
        given = self._by_position(inputs)
        check_names(out, self._outputs, self._engine.where)
        slots = Slots(len(self._inputs)), Slots(len(self._outputs))
        arrays: list[Array] = []
        if self._is_dynamic:
            self.resize({port.name: np.shape(value) for port, value in zip(self._inputs, given)})
        for index, (port, value) in enumerate(zip(self._inputs, given, strict=True)):
            arrays.append(port.in_place(value))
            slots[0].point_at(index, arrays[-1])
        for index, port in enumerate(self._outputs):
            array = port.given(out)
            port.check_output(array, arrays)
            slots[1].point_at(index, array)
            arrays.append(array)
        # While the interpreter lock is held no other thread can close the context, and the runtime itself refuses two at a time.
        keeps_lock = self._engine.brief and self.threads == 1 and not self._is_dynamic and self._arenas is None
        run = self._run_bound
        if keeps_lock:
            run = self._lib.strop_context_call_held if self._finalizer.alive else self._refuse
        elif self._is_dynamic:
            run = partial(self._run_shaped, self._shapes)
        pointers = slots[0].pointers, slots[1].pointers
        binding = Binding(run, self._check_code, self._handle, pointers, (self, slots, arrays))
        if keeps_lock:
            self._held.add(binding)
        return binding

    def _run_bound(self, *arguments: object) -> int:
        """The native call on other arrays of pointers."""
        if not self._lock.acquire(False):
            raise self._busy()
        try:
            return self._call(*arguments)
        finally:
            self._lock.release()

    def _run_shaped(self, shapes: Shapes, *arguments: object) -> int:
        """The same at this shape of the inputs."""
        if not self._lock.acquire(False):
            raise self._busy()
        try:
            self._check_open()
            self._resize(shapes)
            return self._call(*arguments)
        finally:
            self._lock.release()

    def _call_in_pool(self, *arguments: object) -> int:
        """The native call with memory out of the pool."""
        return self._in_pool(partial(self._lib.strop_context_call, *arguments))

    def _in_pool(self, call: Callable[[], int]) -> int:
        """A native call while memory out of the pool is lent to the context."""
        assert self._arenas is not None
        with self._arenas.lease(self._room) as address:
            code: int = self._lib.strop_context_lend(self._handle, address, self._room, self._error_at)
            if code == 0:
                code = call()
                self._lib.strop_context_lend(self._handle, None, 0, None)
            return code

    def _check_code(self, code: int, error: ErrorStruct) -> None:
        self._lib.check(code, error, self._engine.where)

    def _busy(self) -> RuntimeFailure:
        return RuntimeFailure(
            "the context is in use by another thread",
            where=self._engine.where,
            hint="make one context per thread: session.context()",
        )

    def profile(self, inputs: Mapping[str, ArrayLike], *, runs: int = 10) -> tuple[StepTime, ...]:
        """Run `runs` times after a first one; the least time of every step, with its barrier.

        Raises:
            InputError: as run(), or `runs` is not a positive number.
        """
        if not 1 <= runs < 1 << 32:
            raise InputError("a profile needs at least one run", where=self._engine.where, got=runs)
        names = self._engine.step_names
        times = (c_uint64 * len(names))()

        def measure() -> int:
            code: int = self._lib.strop_context_profile(
                self._handle, runs, times, len(names), self._error_at
            )
            return code

        then = measure if self._arenas is None else partial(self._in_pool, measure)
        self._run(self._by_position(inputs), None, then)
        return tuple(StepTime(name, time) for name, time in zip(names, times, strict=True))

    def _run(
        self,
        arrays: Sequence[ArrayLike],
        given: Sequence[Array | None] | None,
        then: Callable[[], int] | None = None,
    ) -> list[Array]:
        """Bind, run, and do `then` while everything is bound."""
        if not self._lock.acquire(False):
            raise self._busy()
        try:
            if self._is_dynamic:
                self._check_open()
                self._resize(tuple(np.shape(a) for a in arrays))
            inputs = self._bind_inputs(arrays)
            if given is None:
                outputs = [empty(shape, dtype) for shape, dtype in self._output_types]
                for i, output in enumerate(outputs):
                    self._output_slots.point_at_new(i, output)
            else:
                outputs = self._bind_given_outputs(given, inputs)
            code = self._call(*self._arguments)
            if code == 0 and then is not None:
                code = then()
            if code != 0:
                self._lib.check(code, self._error, self._engine.where)
            if self._computed:
                self._trim(outputs)
            return outputs
        finally:
            self._lock.release()

    def _bind_inputs(self, arrays: Sequence[ArrayLike]) -> list[Array]:
        """Point the input slots at the arrays or, where they do not fit, at copies that do."""
        inputs: list[Array] = []
        for i, value in enumerate(arrays):
            port = self._inputs[i]
            array = value if type(value) is ndarray and port.fits(value) else port.adapt(value)
            self._input_slots.point_at(i, array)
            inputs.append(array)
        return inputs

    def _bind_given_outputs(
        self, given: Sequence[Array | None], inputs: Sequence[Array]
    ) -> list[Array]:
        outputs: list[Array] = []
        for i, (port, array) in enumerate(zip(self._outputs, given)):
            if array is None:
                array = empty(*self._output_types[i])
            else:
                port.check_output(array, (*inputs, *outputs))
            self._output_slots.point_at(i, array)
            outputs.append(array)
        return outputs

    def _by_position(self, inputs: Mapping[str, Any]) -> list[Any]:
        try:
            arrays = [inputs[port.name] for port in self._inputs]
        except KeyError as error:
            raise InputError(
                f"input '{error.args[0]}' is missing",
                where=self._engine.where,
                got=", ".join(map(str, inputs)) or "no inputs",
                expected=list_of(self._inputs),
            ) from None
        if len(inputs) != len(arrays):
            check_names(inputs, self._inputs, self._engine.where)
        return arrays

    # ---- memory ----

    @property
    def memory(self) -> MemoryFigures:
        """What this context takes, and the weights it shares; waits for a run to end."""
        figures = MemoryStruct()
        with self._lock:
            self._check_open()
            self._lib.strop_context_memory(self._handle, byref(figures))
        return MemoryFigures(figures.weights, figures.arena, figures.scratch)

    @property
    def room(self) -> int:
        """Bytes that a run takes out of a pool; 0 for a context with memory of its own."""
        return 0 if self._arenas is None else self._room

    def _check_open(self) -> None:
        if not self._finalizer.alive:
            raise RuntimeFailure("the context is closed", where=self._engine.where)

    def _refuse(self, *arguments: object) -> int:
        """Stands for the native call once the context is closed."""
        self._check_open()
        raise AssertionError("refused although open")

    def close(self) -> None:
        """Give the memory back; waits for a run to end."""
        with self._lock:
            self._call = self._refuse
            for binding in self._held:
                binding.retire(self._refuse)
            self._finalizer()


def finalizer(
    owner: object, destroy: Callable[[c_void_p], None], handle: c_void_p, keep: object
) -> weakref.finalize[..., Any]:
    """Destroys a handle when its owner goes, or when it is called; keeps `keep` until then."""

    def release(destroy: Callable[[c_void_p], None], handle: c_void_p, keep: object) -> None:
        destroy(handle)

    result: weakref.finalize[..., Any] = weakref.finalize(owner, release, destroy, handle, keep)
    # At exit the memory goes with the process, while threads may still be running.
    result.atexit = False
    return result
