"""Matrix products by cuBLASLt (cublasLt.h of CUDA 12 and 13).

The library counts matrices column by column: its result is ours transposed, its first factor our second one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import (
    byref,
    c_float,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
    sizeof,
)
from typing import Any

from strop.engine.library_calls import ALIGNED, GELU_TANH, NONE, RELU, WORKSPACE, LibraryCall, Lying
from strop.errors import RuntimeFailure
from strop.runtime.gpu_library_files import NoAlgorithm

_TYPES = {"f32": 0, "f16": 2, "bf16": 14}  # cudaDataType_t
_COMPUTE_F32, _COMPUTE_TF32 = 68, 77  # cublasComputeType_t
_TRANSA, _TRANSB, _EPILOGUE, _BIAS_POINTER, _BIAS_TYPE = 3, 4, 7, 8, 26  # cublasLtMatmulDescAttributes_t
_BATCH_COUNT, _BATCH_OFFSET = 5, 6  # cublasLtMatrixLayoutAttribute_t
_MAX_WORKSPACE, _ALIGNMENTS = 1, (5, 6, 7, 8)  # cublasLtMatmulPreferenceAttributes_t
_EPILOGUES = {NONE: 1, RELU: 2, GELU_TANH: 32}  # cublasLtEpilogue_t
_WITH_BIAS = 4
_PLAIN = 1
#: cublasStatus_t.
_NOT_SUPPORTED = 15
_STATUS = {
    1: "NOT_INITIALIZED", 3: "ALLOC_FAILED", 7: "INVALID_VALUE", 8: "ARCH_MISMATCH", 11: "MAPPING_ERROR", 13: "EXECUTION_FAILED", 14: "INTERNAL_ERROR",
    _NOT_SUPPORTED: "NOT_SUPPORTED", 16: "LICENSE_ERROR",
}  # fmt: skip
#: An address for what is asked about before there is one.
_SOME_ADDRESS = 1 << 20


class _Found(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t."""

    _fields_ = (("algo", c_uint64 * 8), ("workspace", c_size_t), ("state", c_int), ("waves", c_float), ("reserved", c_int * 4))


def handle_of(library: Any) -> c_void_p:
    """The library's handle for the device whose context is current."""
    handle = c_void_p()
    _checked(library, "cublasLtCreate", byref(handle))
    return handle


class Product:
    """A call that is ready to be made."""

    def __init__(self, library: Any, handle: c_void_p, call: LibraryCall) -> None:
        """Raises NoAlgorithm when the library's heuristic does not name ``call.rank`` + 1 algorithms."""
        self._library, self._handle, self._call = library, handle, call
        self._made: list[tuple[str, c_void_p]] = []
        try:
            self._describe()
            self._algo = self._choose()
        except BaseException:
            self.close()
            raise

    def _describe(self) -> None:
        call = self._call
        x, w, y = (call.operands[name] for name in ("x", "w", "y"))
        bias, added = call.operands.get("bias"), call.operands.get("added")
        compute = _COMPUTE_TF32 if x.dtype.name == "f32" and call.tf32 else _COMPUTE_F32
        self._problem = self._make("MatmulDesc", c_int(compute), c_int(_TYPES["f32"]))
        # A column of w or a row of x is dense, or lies across
        self._set("MatmulDesc", self._problem, _TRANSA, c_int32(w.strides[2] != 1))
        self._set("MatmulDesc", self._problem, _TRANSB, c_int32(x.strides[2] != 1))
        self._set("MatmulDesc", self._problem, _EPILOGUE, c_uint32(self._epilogue(bias)))
        if bias is not None:
            self._set("MatmulDesc", self._problem, _BIAS_TYPE, c_int32(_TYPES[bias.dtype.name]))
            self._set("MatmulDesc", self._problem, _BIAS_POINTER, c_void_p(_SOME_ADDRESS))
        self._w, self._x, self._y = self._layout(w), self._layout(x), self._layout(y)
        self._added = self._layout(added) if added is not None else self._y

    def _epilogue(self, bias: Lying | None) -> int:
        act = _EPILOGUES[self._call.act]
        if bias is None:
            return act
        return _WITH_BIAS if act == _PLAIN else act | _WITH_BIAS

    def _layout(self, o: Lying) -> c_void_p:
        """The operand as the library counts it: what is dense first."""
        batch, rows, columns = o.shape
        dense, across, step = (columns, rows, o.strides[1]) if o.strides[2] == 1 else (rows, columns, o.strides[2])
        found = self._make("MatrixLayout", c_int(_TYPES[o.dtype.name]), c_uint64(dense), c_uint64(across), c_int64(max(step, dense if across == 1 else 1)))
        if batch > 1:
            self._set("MatrixLayout", found, _BATCH_COUNT, c_int32(batch))
            self._set("MatrixLayout", found, _BATCH_OFFSET, c_int64(o.strides[0]))
        return found

    def _choose(self) -> _Found:
        preference = self._make("MatmulPreference")
        self._set("MatmulPreference", preference, _MAX_WORKSPACE, c_uint64(WORKSPACE))
        for attribute in _ALIGNMENTS:
            self._set("MatmulPreference", preference, attribute, c_uint32(ALIGNED))
        wanted, count = self._call.rank + 1, c_int(0)
        found = (_Found * wanted)()
        operands = (self._w, self._x, self._added, self._y)
        function = "cublasLtMatmulAlgoGetHeuristic"
        status = getattr(self._library, function)(self._handle, self._problem, *operands, preference, c_int(wanted), found, byref(count))
        if status not in (0, _NOT_SUPPORTED):
            raise RuntimeFailure("cuBLASLt reported a failure", where=function, got=_name(status))
        if status or count.value < wanted or found[wanted - 1].state:
            raise NoAlgorithm(
                "cuBLASLt does not know so many algorithms for a product", where=f"algorithm {self._call.rank}", got=count.value,
                expected=f"{wanted} or more", hint="build again on this machine",
            )  # fmt: skip
        return found[wanted - 1]

    def enqueue(self, pointers: Sequence[int], stream: int) -> None:
        """Puts the call on a stream: addresses in the order of the call's operands, then that of the workspace."""
        at = dict(zip((*self._call.names, "workspace"), map(c_void_p, pointers), strict=True))
        if "bias" in at:
            self._set("MatmulDesc", self._problem, _BIAS_POINTER, at["bias"])
        one, beta = c_float(1.0), c_float(1.0 if "added" in at else 0.0)
        _checked(
            self._library, "cublasLtMatmul", self._handle, self._problem, byref(one), at["w"], self._w, at["x"], self._x, byref(beta), at.get("added", at["y"]), self._added,
            at["y"], self._y, byref(self._algo.algo), at["workspace"], c_size_t(WORKSPACE), c_void_p(stream),
        )  # fmt: skip

    def close(self) -> None:
        """Gives the descriptors back."""
        while self._made:
            kind, made = self._made.pop()
            getattr(self._library, f"cublasLt{kind}Destroy")(made)

    def _make(self, kind: str, *arguments: Any) -> c_void_p:
        found = c_void_p()
        _checked(self._library, f"cublasLt{kind}Create", byref(found), *arguments)
        self._made.append((kind, found))
        return found

    def _set(self, kind: str, descriptor: c_void_p, attribute: int, value: Any) -> None:
        _checked(self._library, f"cublasLt{kind}SetAttribute", descriptor, c_int(attribute), byref(value), c_size_t(sizeof(value)))


def _checked(library: Any, function: str, *arguments: Any) -> None:
    status = getattr(library, function)(*arguments)
    if status:
        raise RuntimeFailure("cuBLASLt reported a failure", where=function, got=_name(status))


def _name(status: int) -> str:
    return f"status {status} {_STATUS.get(status, '')}".strip()
