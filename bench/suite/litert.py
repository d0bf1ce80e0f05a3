"""LiteRT behind ``run(net, inputs)``, in a process of its own, and pieces that take .tflite files out of packages."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from bench.suite.runtimes import stored
from bench.suite.task import Array, Net
from bench.suite.tflite_agreement import LITERT
from strop.engine.peer_process import PeerError, PeerProcess, python_of
from strop.errors import StropError
from strop.frontend.tflite.model import load


class LiteRTError(StropError):
    """LiteRT does not start, or does not run a network."""


def member(name: str) -> Callable[[bytes], bytes]:
    """Takes a member out of a zip file."""

    def take(data: bytes) -> bytes:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return archive.read(name)

    return take


class LiteRT:
    """LiteRT with XNNPACK on one thread: an interpreter per call, so that variables begin with their initial values."""

    name = "litert"

    def __init__(self, folder: Path, environment: Path | None) -> None:
        """
        Args:
            folder: the suite's.
            environment: virtual environment with ai-edge-litert; None for this one.
        """
        self._folder, self._environment = folder, environment
        self._process: PeerProcess | None = None
        self._names: dict[str, tuple[list[str], list[str]]] = {}

    def run(self, net: Net, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name.

        Raises:
            LiteRTError: it does not start, or does not run the network.
        """
        path = stored(self._folder, net)
        if net.name not in self._names:
            main = load(path).subgraphs[0]
            self._names[net.name] = [main.tensors[k].name for k in main.inputs], [main.tensors[k].name for k in main.outputs]
        given, found = self._names[net.name]
        try:
            arrays = self._ask(path, {name: inputs[name] if net.steps else inputs[name][None] for name in given})
        except PeerError as error:
            self.close()
            raise LiteRTError("LiteRT does not run a network", where=net.name, got=error, hint="--peers DIR, made by bench/setup_peers.sh DIR") from None
        return dict(zip(found, arrays if net.steps else [array[0] for array in arrays], strict=True))

    def _ask(self, path: Path, inputs: Mapping[str, Array]) -> list[Array]:
        """Outputs of all steps."""
        if self._process is None:
            self._process = PeerProcess(LITERT, python_of(self._environment), {})
        with tempfile.TemporaryDirectory() as folder:
            files = []
            for number, (name, array) in enumerate(inputs.items()):
                files.append([name, str(Path(folder) / f"in{number}.npy")])
                np.save(files[-1][1], array, allow_pickle=False)
            self._process.ask("load", model=str(path), original=str(path), threads=1, inputs=files, cpus=None, work=folder)
            reply = self._process.ask("output", folder=folder)
            return [np.load(file, allow_pickle=False) for file in reply["files"]]

    def close(self) -> None:
        """Ends the process; another call starts one."""
        if self._process is not None:
            self._process.close()
            self._process = None
