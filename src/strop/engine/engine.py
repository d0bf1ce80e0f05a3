"""An engine: a built or loaded network that runs, is saved, and tells what it does."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from strop import knobs
from strop.engine.cubins import PREFIX
from strop.engine.format import EngineFile, Section, SectionKind, read_sections, write_engine
from strop.engine.notebook import pairs_html
from strop.engine.placement import Fallback, fallbacks
from strop.errors import EngineFileError, OptionError
from strop.files import replacing
from strop.ir.dtype import DType
from strop.runtime.arena_pool import ArenaPool
from strop.runtime.context import Context, MemoryFigures, StepTime
from strop.runtime.gpu_session import GpuSession
from strop.runtime.ports import TensorInfo
from strop.runtime.session import Session

Array = NDArray[Any]


class Engine:
    """A network ready to run.

    Attributes:
        path: the engine file that is in use.
        explain: makes accuracy reports; None unless this process built the engine in reduced precision.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None = None) -> None:
        """Opens an engine file; the native part is loaded at first use.

        Raises:
            EngineFileError: not an engine file, truncated or corrupt.
        """
        self.path = Path(path)
        self._file = EngineFile(self.path)
        self._threads = threads
        self._session: Session | GpuSession | None = None
        self._manifest: dict[str, Any] | None = None
        self.explain: Callable[..., Any] | None = None

    @classmethod
    def from_sections(cls, sections: Sequence[Section]) -> Engine:
        """An engine in a private file that is deleted with it; ``save`` keeps a copy."""
        folder = tempfile.mkdtemp(prefix="engine-", dir=knobs.cache_dir())
        try:
            path = Path(folder) / "engine.strop"
            write_engine(path, sections)
            engine = cls(path)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        weakref.finalize(engine, shutil.rmtree, folder, ignore_errors=True)
        return engine

    @property
    def session(self) -> Session | GpuSession:
        """The native session, or that of a GPU's driver; loads it at first use.

        Raises:
            TargetError: this machine cannot run the engine's code.
        """
        if self._session is None and any(e.kind == SectionKind.KERNELS and e.name.startswith(PREFIX) for e in self._file.sections):
            self._session = GpuSession(self.path, threads=self._threads or self.manifest.get("host_threads"))
        if self._session is None:
            self._session = Session(self.path, threads=self._threads or self.manifest.get("threads"))
        return self._session

    @property
    def is_loaded(self) -> bool:
        """Whether the native part is in memory."""
        return self._session is not None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the engine file, whole or not at all."""
        target = Path(path)
        try:
            with replacing(target) as temporary:
                shutil.copyfile(self.path, temporary)
        except OSError as error:
            raise EngineFileError(
                "cannot write the engine file",
                where=str(target),
                got=error.strerror or error,
                hint="write to a folder that exists, is writable and has room",
            ) from error

    # ---- running

    def __call__(self, *inputs: ArrayLike) -> Array | tuple[Array, ...]:
        """Runs on positional inputs; returns the only output, or a tuple of them."""
        return self.session(*inputs)

    def run(self, inputs: Mapping[str, ArrayLike], *, out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Runs on named inputs and returns named outputs; InputError when an array does not fit."""
        return self.session.run(inputs, out=out)

    def context(self, *, threads: int | None = None, arenas: ArenaPool | None = None) -> Context:
        """A context of its own: arena, threads, bindings. Contexts run concurrently; those that take their memory out of one pool of
        ``arenas``, also of several engines, as far as there is room for them at once. That of a GPU is a ``GpuContext``."""
        return cast(Context, self.session.context(threads=threads, arenas=arenas))

    def profile(self, inputs: Mapping[str, ArrayLike] | None = None, *, runs: int = 10) -> tuple[StepTime, ...]:
        """Least time per step over ``runs`` runs; random inputs when none are given."""
        return self.session.profile(inputs if inputs is not None else self.random_inputs(), runs=runs)

    def accuracy_report(self, data: Any, **options: Any) -> Any:
        """What each layer's reduced precision costs, the one most to blame first: a ``strop.engine.xray.AccuracyReport``.

        Args:
            data: samples, see ``strop.quantize.data``.
            options: ``preprocess`` of images; ``batches`` on which layers are isolated.

        Raises:
            OptionError: the engine computes in f32, or was loaded: engine files do not keep the f32 weights.
            InputError: samples do not fit.
        """
        if self.explain is None:
            raise OptionError(
                "there is nothing to compare the engine with", where=str(self.path),
                expected="an engine that this process built with a precision other than fp32",
                hint="strop debug precision MODEL --data DATA, or build and ask in one process",
            )  # fmt: skip
        return self.explain(data, **options)

    def random_inputs(self, seed: int = 0) -> dict[str, Array]:
        """Inputs of the right shapes and dtypes: standard normal floats, small non-negative integers."""
        return random_arrays(((t.name, t.dtype, t.shape) for t in self.inputs), seed)

    # ---- questions

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """Name, dtype and shape of each input."""
        return self.session.inputs

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """Name, dtype and shape of each output."""
        return self.session.outputs

    @property
    def memory(self) -> MemoryFigures:
        """Bytes of weights, arena and scratch."""
        return self.session.memory

    @property
    def manifest(self) -> dict[str, Any]:
        """What the build recorded: target, memory, and per step kernel, source nodes, shapes, flops, bytes."""
        if self._manifest is None:
            self._manifest = self._read_manifest()
        return self._manifest

    def _read_manifest(self) -> dict[str, Any]:
        try:
            found = json.loads(self._file.text(SectionKind.MANIFEST))
        except (ValueError, RecursionError) as error:
            raise EngineFileError("the manifest is not JSON", where=str(self.path), got=error) from error
        if not isinstance(found, dict):
            raise EngineFileError("the manifest is not a JSON object", where=str(self.path))
        return found

    @property
    def placement(self) -> tuple[Fallback, ...]:
        """Of an engine for a GPU the steps that run on the processor, and why."""
        return fallbacks(self.manifest)

    def attach(self, name: str, data: bytes) -> Engine:
        """A copy of the engine that carries bytes of the caller's own under a name; ``attachment`` reads them back."""
        kept = [(e, b) for e, b in read_sections(self.path) if (e.kind, e.name) != (SectionKind.ATTACHMENT, name)]
        sections = [Section(entry.kind, entry.name, [found], entry.flags) for entry, found in kept]
        return Engine.from_sections([*sections, Section(SectionKind.ATTACHMENT, name, [data])])

    def attachment(self, name: str) -> bytes | None:
        """The bytes that were attached under a name, or None."""
        entry = self._file.find(SectionKind.ATTACHMENT, name)
        return None if entry is None else self._file.read(entry).tobytes()

    @property
    def graph_text(self) -> str:
        """The portable graph the engine was built from."""
        return self._file.text(SectionKind.GRAPH)

    def _repr_html_(self) -> str:
        manifest = self.manifest
        memory = manifest.get("memory", {})
        rows = [("target", f"{manifest.get('target')}, {manifest.get('threads')} threads"), ("kernels", len(manifest.get("steps", [])))]
        rows += [("input", str(tensor)) for tensor in self.inputs] + [("output", str(tensor)) for tensor in self.outputs]
        rows += [(name, f"{memory.get(name, 0) / 2**20:.2f} MiB") for name in ("weights", "arena")]
        return pairs_html(f"Engine {manifest.get('model')}", rows)

    def __repr__(self) -> str:
        return f"Engine({self.manifest.get('model')} for {self.manifest.get('target')})"


def random_arrays(tensors: Iterable[tuple[str, DType, tuple[int, ...]]], seed: int) -> dict[str, Array]:
    """An array per (name, dtype, shape): standard normal floats, 0 and 1 for everything else."""
    rng = np.random.default_rng(seed)
    made: dict[str, Array] = {}
    for name, dtype, shape in tensors:
        drawn = rng.standard_normal(shape) if dtype.is_float else rng.integers(0, 2, shape)
        made[name] = np.asarray(drawn).astype(dtype.numpy)
    return made


def load(path: str | os.PathLike[str], *, threads: int | None = None) -> Engine:
    """Opens an engine file. Needs no compiler.

    Args:
        path: of the file.
        threads: per context; None for what it was built for.

    Raises:
        EngineFileError: not an engine file, truncated, corrupt or of another version.
        TargetError: no code in it for this machine.
        CustomError: a custom layer that it needs is not registered in this process.
    """
    engine = Engine(path, threads=threads)
    assert engine.session is not None  # loads the native part, so that errors come now
    return engine
