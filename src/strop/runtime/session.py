"""Running an engine from Python: numpy in, numpy out.

    session = Session("net.strop", threads=2)
    y = session(x)                      # positional
    outputs = session.run({"x": x})     # by name

Arrays are used where they lie: an input that is C-contiguous and of the right dtype is read in
place, outputs are written into the arrays that are returned. The interpreter lock is released
while an engine is loaded or runs, but for bound calls of a few microseconds.
"""

from __future__ import annotations

import ctypes
import json
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from ctypes import byref, c_size_t, c_void_p
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from strop.engine.format import EngineFile, Source
from strop.errors import EngineFileError, OptionError, RuntimeFailure
from strop.ir.dtype import BY_CODE
from strop.runtime.arena_pool import ArenaPool
from strop.runtime.context import (
    Context,
    EngineView,
    MemoryFigures,
    StepInfo,
    StepTime,
    finalizer,
)
from strop.runtime.error_struct import ErrorStruct
from strop.runtime.library import (
    Library,
    MemoryStruct,
    StepStruct,
    TensorStruct,
    library_of,
)
from strop.runtime.ports import Array, TensorInfo

MAX_THREADS = 256
#: Most steps, and most nanoseconds that the build expects of them together, of an engine whose bound calls keep the interpreter lock: far
#: below the time after which Python switches threads.
_BRIEF_STEPS, _BRIEF_NS = 64, 20_000


class Session:
    """A loaded engine.

    May be used from any number of threads: each gets a context of its own.

    Attributes:
        where: the path, or ``(memory)``.
        inputs: in the order of positional arguments.
        outputs: in the order of results.
        steps: what a run does, in order.
        target: the target whose code was chosen for this CPU.
        isa: the instruction set of that code.
    """

    def __init__(self, source: Source, *, threads: int | None = None) -> None:
        """Load an engine.

        Args:
            source: a path; or the bytes of an engine, which must not change while it is loaded.
            threads: per context; None for one per processor that this process may use.

        Raises:
            EngineFileError: not an engine file, truncated, corrupt or of another version.
            TargetError: no code in it for this system and CPU.
            CustomError: a custom layer that it needs is not registered.
            OptionError: an impossible number of threads.
        """
        self._threads = _check_threads(threads)
        file = EngineFile(source)
        self.where = file.where
        self._lib = library_of(file)
        self._handle, keep = _load(self._lib, source, file.where)
        self._finalizer = finalizer(self, self._lib.strop_engine_destroy, self._handle, keep)
        self._check_custom()
        self._local = threading.local()
        self._life = threading.Lock()  # held where a concurrent close() would hurt
        self.inputs = self._tensors("input")
        self.outputs = self._tensors("output")
        self.steps = self._steps()
        self.target: str = self._lib.strop_engine_target(self._handle).decode()
        self.isa: str = self._lib.strop_engine_isa(self._handle).decode("utf-8", "replace")
        self._view = EngineView(
            self.where,
            self._lib,
            self._handle,
            keep,
            self.inputs,
            self.outputs,
            tuple(step.name for step in self.steps),
            self._is_brief(),
        )

    # ---- running ----

    def __call__(self, *inputs: ArrayLike) -> Array | tuple[Array, ...]:
        """Run on positional inputs; see Context."""
        return self._context()(*inputs)

    def run(
        self, inputs: Mapping[str, ArrayLike], *, out: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """Run on named inputs; see Context.run."""
        return self._context().run(inputs, out=out)

    def profile(self, inputs: Mapping[str, ArrayLike], *, runs: int = 10) -> tuple[StepTime, ...]:
        """The time of every step; see Context.profile."""
        return self._context().profile(inputs, runs=runs)

    def context(self, *, threads: int | None = None, arenas: ArenaPool | None = None) -> Context:
        """A new context; None for the session's own number of threads. With ``arenas`` its memory comes out of that pool.

        Raises:
            OptionError: an impossible number of threads.
            RuntimeFailure: no memory for its arena, or its threads cannot be started.
        """
        count = self._threads if threads is None else _check_threads(threads)
        with self._life:
            self._check_open()
            return Context(self._view, count, arenas)

    def _context(self) -> Context:
        """The calling thread's context."""
        try:
            context: Context = self._local.context
        except AttributeError:
            context = self._local.context = self.context()
        return context

    # ---- questions ----

    @property
    def manifest(self) -> dict[str, Any]:
        """What the build recorded about the engine."""
        text = self._section_text(self._lib.strop_engine_manifest)
        try:
            manifest = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise EngineFileError(
                "the manifest is not JSON", where=self.where, got=error
            ) from error
        if not isinstance(manifest, dict):
            raise EngineFileError("the manifest is not a JSON object", where=self.where)
        return manifest

    @property
    def graph_text(self) -> str:
        """The portable graph the engine was built from; empty when it was left out."""
        return self._section_text(self._lib.strop_engine_graph)

    @property
    def memory(self) -> MemoryFigures:
        """What the engine and a context with one thread take."""
        figures = MemoryStruct()
        with self._life:
            self._check_open()
            self._lib.strop_engine_memory(self._handle, byref(figures))
        return MemoryFigures(figures.weights, figures.arena, figures.scratch)

    def _section_text(self, function: Callable[..., int | None]) -> str:
        size = c_size_t()
        with self._life:
            self._check_open()
            address = function(self._handle, byref(size))
            text = ctypes.string_at(address, size.value) if address else b""
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise EngineFileError(
                "a text of the engine is not UTF-8", where=self.where, got=error
            ) from error

    def _tensors(self, role: str) -> tuple[TensorInfo, ...]:
        count = getattr(self._lib, f"strop_engine_{role}_count")(self._handle)
        query = getattr(self._lib, f"strop_engine_{role}_info")
        error = ErrorStruct()
        row = TensorStruct()
        tensors = []
        for index in range(count):
            code = query(self._handle, index, byref(row), byref(error))
            self._lib.check(code, error, self.where)
            shape, least, most, step = (
                tuple(dims[: row.rank]) for dims in (row.dims, row.least, row.most, row.step)
            )
            free = (least, most, step) if least != most else ((), (), ())
            tensors.append(TensorInfo(_text(row.name), BY_CODE[row.dtype], shape, *free, is_computed=bool(row.is_computed)))
        if len({tensor.name for tensor in tensors}) != len(tensors):
            raise EngineFileError(f"two {role}s of the engine have one name", where=self.where)
        return tuple(tensors)

    def _check_custom(self) -> None:
        error = ErrorStruct()
        self._lib.check(self._lib.strop_engine_check_custom(self._handle, byref(error)), error, self.where)

    def _steps(self) -> tuple[StepInfo, ...]:
        error = ErrorStruct()
        row = StepStruct()
        steps = []
        for index in range(self._lib.strop_engine_step_count(self._handle)):
            code = self._lib.strop_engine_step_info(self._handle, index, byref(row), byref(error))
            self._lib.check(code, error, self.where)
            steps.append(StepInfo(_text(row.name), row.kernel, row.tasks, row.grain))
        return tuple(steps)

    def _is_brief(self) -> bool:
        """Whether the build expects a run to be over at once; a manifest that does not tell is no reason to refuse the engine."""
        records: object = None
        if len(self.steps) <= _BRIEF_STEPS:
            with suppress(EngineFileError):
                records = self.manifest.get("steps")
        times = [r.get("estimated_ns") for r in records if isinstance(r, dict)] if isinstance(records, list) else []
        known = [t for t in times if isinstance(t, int)]
        return len(known) == len(self.steps) > 0 and sum(known) <= _BRIEF_NS

    # ---- life ----

    def _check_open(self) -> None:
        if not self._finalizer.alive:
            raise RuntimeFailure("the session is closed", where=self.where)

    def close(self) -> None:
        """Give the engine back. Contexts that context() made stay usable."""
        with self._life:
            self._local = threading.local()
            self._finalizer()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _load(lib: Library, source: Source, where: str) -> tuple[c_void_p, object]:
    """The engine's handle, and what must live as long as it."""
    handle = c_void_p()
    error = ErrorStruct()
    keep = None
    if isinstance(source, (bytes, bytearray, memoryview)):
        keep = np.frombuffer(source, np.uint8)
        code = lib.strop_engine_load_memory(
            keep.ctypes.data, keep.size, byref(handle), byref(error)
        )
    else:
        code = lib.strop_engine_load(os.fsencode(source), byref(handle), byref(error))
    lib.check(code, error, where)
    return handle, keep


def _check_threads(threads: int | None) -> int:
    """The number that strop_context_create takes."""
    if threads is None:
        return 0
    if not 1 <= threads <= MAX_THREADS:
        raise OptionError(
            "impossible number of threads", got=threads, expected=f"1 to {MAX_THREADS}"
        )
    return threads


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
