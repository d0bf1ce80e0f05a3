"""cuBLASLt and cuDNN that write down what they are asked, in place of the real ones: see ``install``."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import pytest

from strop.runtime import gpu_libraries, gpu_library_files

VERSIONS = {"cublaslt": "13.1.0", "cudnn": "9.28.1"}


class FakeLibrary:
    """Takes every call.

    Attributes:
        calls: (function, arguments), in order.
        made: descriptors that are not given back.
        algorithms: how many the heuristic names.
        status: of functions that fail, by name.
        unfit: the kind of cuDNN's descriptors that cannot be finished.
        enqueued: told (library, addresses) of every call that is put on a stream.
    """

    def __init__(self, name: str, version: int) -> None:
        self.name, self.version = name, version
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.made: set[int] = set()
        self.algorithms = 3
        self.status: dict[str, int] = {}
        self.unfit = -1
        self.enqueued: Callable[[str, tuple[int, ...]], None] = lambda name, addresses: None
        self.attributes: dict[int, dict[int, list[Any]]] = {}
        self.kinds: dict[int, int] = {}

    def __getattr__(self, function: str) -> Any:
        if not function.startswith(("cublasLt", "cudnn")):
            raise AttributeError(function)
        return lambda *arguments: self._call(function, arguments)

    def _call(self, function: str, arguments: tuple[Any, ...]) -> int:
        self.calls.append((function, arguments))
        if function.endswith("GetVersion"):
            return self.version
        if function in self.status:
            return self.status[function]
        if function == "cudnnBackendFinalize" and self.kinds[arguments[0].value] == self.unfit:
            return 3000
        known = getattr(self, f"_{function}", None)
        if known is not None:
            known(*arguments)
        elif function.endswith(("Create", "CreateDescriptor")):
            place = arguments[1] if function == "cudnnBackendCreateDescriptor" else arguments[0]
            number = len(self.calls) + 1000
            place._obj.value = number
            self.made.add(number)
            self.kinds[number] = arguments[0].value if function == "cudnnBackendCreateDescriptor" else 0
        elif function.endswith(("Destroy", "DestroyDescriptor")):
            self.made.remove(arguments[0].value)
        return 0

    # ---- cuBLASLt

    def _cublasLtMatmulAlgoGetHeuristic(self, handle, problem, a, b, c, d, preference, wanted, found, count):  # noqa: N802
        count._obj.value = min(wanted.value, self.algorithms)

    def _cublasLtMatmul(self, handle, problem, alpha, a, a_lies, b, b_lies, beta, c, c_lies, d, d_lies, algorithm, work, size, stream):  # noqa: N802
        self.beta = beta._obj.value
        self.enqueued("cublaslt", tuple(p.value for p in (a, b, c, d, work)))

    # ---- cuDNN

    def _cudnnBackendSetAttribute(self, descriptor, attribute, kind, count, values):  # noqa: N802
        assert count.value == len(values)
        self.attributes.setdefault(descriptor.value, {})[attribute.value] = list(values)

    def _cudnnBackendGetAttribute(self, descriptor, attribute, kind, wanted, count, place):  # noqa: N802
        if attribute.value == 202:
            count._obj.value = self.algorithms
        elif attribute.value == 402:
            place._obj.value = 1 << 20

    def _cudnnBackendExecute(self, handle, plan, pack):  # noqa: N802
        found = self.attributes[pack.value]
        order = dict(zip(found[1000], found[1001], strict=True))
        self.enqueued("cudnn", (*(order[k] for k in sorted(order)), *found[1003]))

    def _cudnnGetLastErrorString(self, text, size):  # noqa: N802
        ctypes.memmove(text, b"it says why\0", 12)


def install(monkeypatch: pytest.MonkeyPatch, absent: str = "") -> dict[str, FakeLibrary]:
    """Fakes are found in place of the libraries from here on, but for one that is ``absent``."""
    fakes = {"cublaslt": FakeLibrary("cublaslt", 130100), "cudnn": FakeLibrary("cudnn", 92801)}
    monkeypatch.setattr(gpu_library_files, "load", lambda name: None if name == absent else fakes[name])
    monkeypatch.setattr(gpu_libraries, "_HANDLES", {})
    return fakes
