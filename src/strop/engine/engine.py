"""An engine: a built or loaded network that runs, is saved, and tells what it does."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from strop import knobs
from strop.engine.format import EngineFile, Section, SectionKind, write_engine
from strop.errors import EngineFileError
from strop.runtime.context import Context, MemoryFigures, StepTime
from strop.runtime.ports import TensorInfo
from strop.runtime.session import Session

Array = NDArray[Any]


class Engine:
    """A network ready to run.

    Attributes:
        path: the engine file that is in use.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None = None) -> None:
        """Opens an engine file; the native part is loaded at first use.

        Raises:
            EngineFileError: not an engine file, truncated or corrupt.
        """
        self.path = Path(path)
        self._file = EngineFile(self.path)
        self._threads = threads
        self._session: Session | None = None
        self._manifest: dict[str, Any] | None = None

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
    def session(self) -> Session:
        """The native session; loads it at first use.

        Raises:
            TargetError: this machine cannot run the engine's code.
        """
        if self._session is None:
            self._session = Session(self.path, threads=self._threads or self.manifest.get("threads"))
        return self._session

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the engine file, whole or not at all."""
        target = Path(path)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
        try:
            try:
                shutil.copyfile(self.path, temporary)
                os.replace(temporary, target)
            except BaseException:
                with suppress(OSError):
                    temporary.unlink()
                raise
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

    def context(self, *, threads: int | None = None) -> Context:
        """A context of its own: arena, threads, bindings. Contexts run concurrently."""
        return self.session.context(threads=threads)

    def profile(self, inputs: Mapping[str, ArrayLike] | None = None, *, runs: int = 10) -> tuple[StepTime, ...]:
        """Least time per step over ``runs`` runs; random inputs when none are given."""
        return self.session.profile(inputs if inputs is not None else self.random_inputs(), runs=runs)

    def random_inputs(self, seed: int = 0) -> dict[str, Array]:
        """Inputs of the right shapes and dtypes: standard normal floats, small non-negative integers."""
        rng = np.random.default_rng(seed)
        made: dict[str, Array] = {}
        for tensor in self.inputs:
            if tensor.dtype.is_float:
                made[tensor.name] = rng.standard_normal(tensor.shape).astype(tensor.dtype.numpy)
            else:
                made[tensor.name] = rng.integers(0, 2, tensor.shape).astype(tensor.dtype.numpy)
        return made

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
    def graph_text(self) -> str:
        """The portable graph the engine was built from."""
        return self._file.text(SectionKind.GRAPH)

    def __repr__(self) -> str:
        return f"Engine({self.manifest.get('model')} for {self.manifest.get('target')})"


def load(path: str | os.PathLike[str], *, threads: int | None = None) -> Engine:
    """Opens an engine file. Needs no compiler.

    Args:
        path: of the file.
        threads: per context; None for what it was built for.

    Raises:
        EngineFileError: not an engine file, truncated, corrupt or of another version.
        TargetError: no code in it for this machine.
    """
    engine = Engine(path, threads=threads)
    assert engine.session is not None  # loads the native part, so that errors come now
    return engine
