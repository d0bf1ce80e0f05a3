"""Other runtimes as processes: the table of those that are known, and the talk with ``peers/runner.py``.

Every runtime runs in a process and a Python environment of its own, so that no thread pool, allocator or
environment variable of one meets another.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from strop import knobs
from strop.errors import OptionError

_FOLDER = Path(__file__).parent / "peers"
RUNNER = _FOLDER / "runner.py"

#: Seconds that loading a model (with its conversion or compilation) and any other request may take.
LOAD_TIMEOUT, TIMEOUT = 1800.0, 600.0


@dataclass(frozen=True)
class Peer:
    """A runtime to measure against.

    Attributes:
        name: as users write it.
        script: the file that ``runner.py`` loads.
        package: what pip installs.
        avx2: environment variables that limit it to AVX2; None when nothing does.
        avx2_note: how it is limited, or why it cannot be.
        precisions: that it can be told to compute in.
    """

    name: str
    script: Path
    package: str
    avx2: Mapping[str, str] | None
    avx2_note: str
    precisions: tuple[str, ...] = ("fp32",)


_NO_SWITCH = "has no switch for the instruction set at run time"

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("onnxruntime", _FOLDER / "onnxruntime.py", "onnxruntime", None, _NO_SWITCH),
        Peer(
            "openvino",
            _FOLDER / "openvino.py",
            "openvino",
            {"ONEDNN_MAX_CPU_ISA": "AVX2"},
            "ONEDNN_MAX_CPU_ISA=AVX2",
            ("fp32", "bf16", "fp16"),
        ),
        Peer("litert", _FOLDER / "litert.py", "ai-edge-litert", None, _NO_SWITCH),
        Peer("ncnn", _FOLDER / "ncnn.py", "ncnn", None, _NO_SWITCH),
        Peer(
            "torch",
            _FOLDER / "torch.py",
            "torch",
            {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
            "ATEN_CPU_CAPABILITY=avx2 and ONEDNN_MAX_CPU_ISA=AVX2; its matrix library keeps its own choice",
        ),
    )
}

#: Strop in the same kind of process.
OWN = Peer("strop", _FOLDER / "own.py", "strop", {}, "built for the target", ("fp32", "bf16", "fp16"))


def find_peers(names: Sequence[str]) -> list[Peer]:
    """The peers of these names, each once.

    Raises:
        OptionError: a name that is not known, or none at all.
    """
    unknown = [name for name in names if name not in PEERS]
    if unknown or not names:
        raise OptionError("unknown runtime to compare with", got=unknown or "none", expected=", ".join(PEERS))
    return [PEERS[name] for name in dict.fromkeys(names)]


def python_of(folder: Path | None) -> Path:
    """The interpreter of a virtual environment; this process's own for None.

    Raises:
        OptionError: there is no environment in the folder.
    """
    if folder is None:
        return Path(sys.executable)
    path = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not path.exists():
        raise OptionError(
            "no virtual environment with the other runtimes",
            where=str(folder),
            expected=str(path),
            hint="make one: bench/setup_peers.sh DIR",
        )
    return path


class PeerError(Exception):
    """A runtime cannot do what is asked (``kind`` is ``cannot``), or failed at it (``failed``)."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class PeerProcess:
    """A running ``runner.py``. Close it, or use it as a context manager."""

    def __init__(self, peer: Peer, python: Path, environment: Mapping[str, str]) -> None:
        """Starts the process.

        Raises:
            PeerError: it does not start.
        """
        self.peer = peer
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed by close()
        command = [str(python), str(RUNNER), str(peer.script)]
        if peer is OWN:
            command += ["--path", str(Path(__file__).parents[2])]
        else:
            environment = {**environment, "PYTHONPATH": ""}
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=knobs.environment(environment),
            )
        except OSError as error:
            self._errors.close()
            raise PeerError("failed", f"{python} does not start: {error.strerror or error}") from None
        self._rest = b""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ask(self, do: str, *, timeout: float = TIMEOUT, **fields: Any) -> dict[str, Any]:
        """Sends a request and waits for the reply.

        Raises:
            PeerError: the runtime refuses or fails, ends, or does not answer in ``timeout`` seconds.
        """
        assert self._process.stdin is not None
        if self._process.stdin.closed:
            raise PeerError("failed", "its process has been ended")
        try:
            self._process.stdin.write(json.dumps({"do": do, **fields}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._ended() from None
        line = self._read_line(do, timeout)
        try:
            reply = json.loads(line)
        except ValueError:
            raise PeerError("failed", f"an answer that is no JSON: {line[:200]!r}") from None
        if not isinstance(reply, dict) or not reply.get("ok"):
            found: dict[str, Any] = reply if isinstance(reply, dict) else {}
            raise PeerError(str(found.get("kind", "failed")), str(found.get("error", reply)))
        return reply

    def _read_line(self, do: str, timeout: float) -> bytes:
        assert self._process.stdout is not None
        end = time.monotonic() + timeout
        file = self._process.stdout.fileno()
        while b"\n" not in self._rest:
            left = end - time.monotonic()
            if left <= 0 or not select.select([file], [], [], left)[0]:
                self.close()
                raise PeerError("failed", f"no answer to {do} in {timeout:g} s")
            data = os.read(file, 1 << 16)
            if not data:
                raise self._ended()
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _ended(self) -> PeerError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        code = self._process.poll()
        how = "does not answer" if code is None else f"ended by signal {-code}" if code < 0 else f"ended with code {code}"
        said = self.said()
        return PeerError("failed", f"the process {how}{': ' * bool(said)}{said}")

    def said(self) -> str:
        """The last line that the process wrote to stderr."""
        if self._errors.closed:
            return ""
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - 4096))
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""

    def close(self) -> None:
        """Ends the process."""
        process = self._process
        if process.poll() is None:
            process.kill()
        process.wait()
        for file in (process.stdin, process.stdout, self._errors):
            with suppress(OSError):
                if file is not None:
                    file.close()

    def __enter__(self) -> PeerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
