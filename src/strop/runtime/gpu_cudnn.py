"""Convolutions by cuDNN's graphs (cudnn_graph.h of cuDNN 9): a convolution, a bias, a sum and a function as one plan."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import byref, c_bool, c_float, c_int, c_int64, c_size_t, c_void_p, create_string_buffer
from typing import Any

from strop.engine.library_calls import ALIGNED, GELU, GELU_TANH, RELU, WORKSPACE, LibraryCall, Lying
from strop.errors import RuntimeFailure
from strop.runtime.gpu_library_files import NoAlgorithm

_TYPES = {"f32": 0, "f16": 2, "bf16": 9}  # cudnnDataType_t
_F32 = _TYPES["f32"]
# cudnnBackendDescriptorType_t
_POINTWISE, _CONVOLUTION, _CONFIGURATION, _HEURISTIC, _PLAN, _DO_CONVOLUTION, _DO_POINTWISE, _GRAPH, _PACK, _TENSOR = 0, 1, 3, 4, 5, 10, 13, 15, 16, 17
# cudnnBackendAttributeType_t: its number, and the C type of an element
_HANDLE, _TYPE, _BOOL, _INT64, _FLOAT, _POINTER = (0, c_void_p), (1, c_int), (2, c_bool), (3, c_int64), (4, c_float), (6, c_void_p)
_MODE, _HEURISTIC_MODE, _POINTWISE_MODE, _DESCRIPTOR = (7, c_int), (8, c_int), (14, c_int), (15, c_void_p)
_CROSS_CORRELATION, _MODE_A = 1, 3
_ADD, _FUNCTIONS = 0, {RELU: 100, GELU: 104, GELU_TANH: 107}  # cudnnPointwiseMode_t
#: Numbers of the tensors of a call; further ones are of what stays on the chip.
_NUMBERS = {"x": 1, "w": 2, "bias": 3, "added": 4, "y": 5}
_INNER = 6

#: An attribute: its number, its type, its values.
_Attribute = tuple[int, tuple[int, Any], Sequence[Any]]


def handle_of(library: Any) -> c_void_p:
    """The library's handle for the device whose context is current."""
    handle = c_void_p()
    _checked(library, "cudnnCreate", byref(handle))
    return handle


class Convolution:
    """A call that is ready to be made."""

    def __init__(self, library: Any, handle: c_void_p, call: LibraryCall) -> None:
        """Raises NoAlgorithm when the library's heuristic does not name ``call.rank`` + 1 algorithms, or that one does not run here or takes too much memory."""
        self._library, self._handle, self._call = library, handle, call
        self._made: list[c_void_p] = []
        try:
            graph = self._described(_GRAPH, (800, _HANDLE, [handle]), (801, _DESCRIPTOR, self._operations()))
            self._plan = self._chosen(graph)
        except BaseException:
            self.close()
            raise

    def _operations(self) -> list[c_void_p]:
        """The convolution, and what follows it one by one, in the order in which cuDNN knows such chains; the last one writes y."""
        call, operands, window = self._call, self._call.operands, self._call.window
        assert window is not None
        told = self._described(
            _CONVOLUTION, (100, _TYPE, [_F32]), (101, _MODE, [_CROSS_CORRELATION]), (102, _INT64, window.dilations), (103, _INT64, window.strides),
            (104, _INT64, window.after), (105, _INT64, window.before), (106, _INT64, [2]),
        )  # fmt: skip
        x, w, y = (self._tensor(_NUMBERS[name], operands[name]) for name in ("x", "w", "y"))
        later: list[tuple[int, c_void_p | None]] = [(_ADD, self._tensor(_NUMBERS[name], self._wide(name))) for name in ("added", "bias") if name in operands]
        later += [(_FUNCTIONS[call.act], None)] if call.act in _FUNCTIONS else []
        values = [self._tensor(_INNER + k, operands["y"], inner=True) for k in range(len(later))] + [y]
        found = [
            self._described(
                _DO_CONVOLUTION, (700, _FLOAT, [1.0]), (701, _FLOAT, [0.0]), (702, _DESCRIPTOR, [told]), (703, _DESCRIPTOR, [w]), (704, _DESCRIPTOR, [x]),
                (705, _DESCRIPTOR, [values[0]]),
            )
        ]
        for (mode, other), source, target in zip(later, values, values[1:], strict=False):
            function = self._described(_POINTWISE, (0, _POINTWISE_MODE, [mode]), (1, _TYPE, [_F32]))
            sides: list[_Attribute] = [] if other is None else [(752, _DESCRIPTOR, [other])]
            found.append(self._described(_DO_POINTWISE, (750, _DESCRIPTOR, [function]), (751, _DESCRIPTOR, [source]), *sides, (753, _DESCRIPTOR, [target])))
        return found

    def _wide(self, name: str) -> Lying:
        """An operand with the result's axes."""
        o = self._call.operands[name]
        if name != "bias":
            return o
        (columns,) = o.shape
        return Lying(o.dtype, (1, columns, 1, 1), (columns, 1, columns, columns))

    def _tensor(self, number: int, o: Lying, inner: bool = False) -> c_void_p:
        """A tensor; an inner one is of f32 and has no memory."""
        return self._described(
            _TENSOR, (906, _INT64, [number]), (901, _TYPE, [_F32 if inner else _TYPES[o.dtype.name]]), (902, _INT64, o.shape), (903, _INT64, o.strides),
            (900, _INT64, [ALIGNED]), (907, _BOOL, [inner]),
        )  # fmt: skip

    def _chosen(self, graph: c_void_p) -> c_void_p:
        """The plan of the algorithm that the call asks for."""
        rank, count = self._call.rank, c_int64(0)
        heuristic = self._described(_HEURISTIC, (201, _DESCRIPTOR, [graph]), (200, _HEURISTIC_MODE, [_MODE_A]))
        self._get(heuristic, 202, _DESCRIPTOR, 0, count, None)
        if count.value <= rank:
            raise _none(rank, f"{count.value} algorithms")
        found = (c_void_p * (rank + 1))(*(self._new(_CONFIGURATION).value for _ in range(rank + 1)))
        self._get(heuristic, 202, _DESCRIPTOR, rank + 1, count, found)
        plan = self._new(_PLAN)
        self._set(plan, 400, _HANDLE, [self._handle])
        self._set(plan, 401, _DESCRIPTOR, [found[rank]])
        status = self._library.cudnnBackendFinalize(plan)
        if status:
            raise _none(rank, _name(self._library, status))
        needed = c_int64(0)
        self._get(plan, 402, _INT64, 1, count, needed)
        if needed.value > WORKSPACE:
            raise _none(rank, f"one that takes {needed.value} bytes of workspace")
        return plan

    def enqueue(self, pointers: Sequence[int], stream: int) -> None:
        """Puts the call on a stream: addresses in the order of the call's operands, then that of the workspace."""
        *addresses, workspace = pointers
        names = self._call.names
        kept = len(self._made)
        try:
            pack = self._described(
                _PACK, (1000, _INT64, [_NUMBERS[name] for name in names]), (1001, _POINTER, addresses), (1003, _POINTER, [workspace])
            )
            _checked(self._library, "cudnnSetStream", self._handle, c_void_p(stream))
            _checked(self._library, "cudnnBackendExecute", self._handle, self._plan, pack)
        finally:
            self._destroy(kept)

    def close(self) -> None:
        """Gives plan and descriptors back."""
        self._destroy(0)

    def _destroy(self, kept: int) -> None:
        while len(self._made) > kept:
            self._library.cudnnBackendDestroyDescriptor(self._made.pop())

    # ---- descriptors

    def _new(self, kind: int) -> c_void_p:
        found = c_void_p()
        _checked(self._library, "cudnnBackendCreateDescriptor", c_int(kind), byref(found))
        self._made.append(found)
        return found

    def _described(self, kind: int, *attributes: _Attribute) -> c_void_p:
        """A finished descriptor."""
        found = self._new(kind)
        for attribute in attributes:
            self._set(found, *attribute)
        _checked(self._library, "cudnnBackendFinalize", found)
        return found

    def _set(self, descriptor: c_void_p, attribute: int, kind: tuple[int, Any], values: Sequence[Any]) -> None:
        number, element = kind
        array = (element * len(values))(*(v.value if isinstance(v, c_void_p) else v for v in values))
        _checked(self._library, "cudnnBackendSetAttribute", descriptor, c_int(attribute), c_int(number), c_int64(len(values)), array)

    def _get(self, descriptor: c_void_p, attribute: int, kind: tuple[int, Any], wanted: int, count: c_int64, place: Any) -> None:
        where = None if place is None else byref(place)
        _checked(self._library, "cudnnBackendGetAttribute", descriptor, c_int(attribute), c_int(kind[0]), c_int64(wanted), byref(count), where)


def _none(rank: int, got: str) -> NoAlgorithm:
    return NoAlgorithm(
        "cuDNN has no such algorithm for a convolution on this GPU", where=f"algorithm {rank}", got=got, expected="one that runs in the workspace of 32 MiB",
        hint="build again on this machine",
    )  # fmt: skip


def _checked(library: Any, function: str, *arguments: Any) -> None:
    status = getattr(library, function)(*arguments)
    if status:
        raise RuntimeFailure("cuDNN reported a failure", where=function, got=_name(library, status))


def _name(library: Any, status: int) -> str:
    """A status with what the library says about it."""
    text = create_string_buffer(512)
    library.cudnnGetLastErrorString(text, c_size_t(len(text)))
    return f"status {status} {text.value.decode(errors='replace').strip()}".strip()
