"""The native runtime as a ctypes library, taken out of an engine file and loaded once per process.

``strop.h`` documents the functions. The library is loaded from an anonymous file in memory, so
nothing is installed and nothing is left behind.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import tempfile
import threading
from ctypes import (
    POINTER,
    PYFUNCTYPE,
    Structure,
    c_char_p,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
    cast,
)
from typing import Any, NoReturn

from strop.engine.format import RUNTIME_ABI, EngineFile, SectionEntry, SectionKind
from strop.errors import (
    CustomError,
    EngineFileError,
    InputError,
    RuntimeFailure,
    StropError,
    TargetError,
)
from strop.runtime import callbacks
from strop.runtime.error_struct import ErrorStruct

MAX_RANK = 8

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
# enum strop_code
_ERR_FILE, _ERR_VERSION, _ERR_ISA, _ERR_CODE, _ERR_SHAPE, _ERR_CUSTOM, _ERR_DATA = 3, 4, 5, 6, 9, 10, 11


class TensorStruct(Structure):
    """strop_tensor_info."""

    _fields_ = (
        ("name", c_char_p),
        ("dtype", c_uint32),
        ("rank", c_uint32),
        ("dims", c_int64 * MAX_RANK),
        ("bytes", c_uint64),
        ("least", c_int64 * MAX_RANK),
        ("most", c_int64 * MAX_RANK),
        ("step", c_int64 * MAX_RANK),
        ("is_computed", c_uint32),
        ("zero", c_uint32),
    )


class StepStruct(Structure):
    """strop_step_info."""

    _fields_ = (("name", c_char_p), ("kernel", c_uint32), ("tasks", c_int64), ("grain", c_int64))


class MemoryStruct(Structure):
    """strop_memory_info."""

    _fields_ = (("weights", c_uint64), ("arena", c_uint64), ("scratch", c_uint64))


_ERROR = POINTER(ErrorStruct)
# name: (result, arguments)
_PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "strop_abi_version": (c_uint32, ()),
    "strop_cpu_supports": (c_int32, (c_char_p,)),
    "strop_cpu_target": (c_char_p, ()),
    "strop_hash64": (c_uint64, (c_void_p, c_size_t)),
    "strop_engine_load": (c_int32, (c_char_p, POINTER(c_void_p), _ERROR)),
    "strop_engine_load_memory": (c_int32, (c_void_p, c_size_t, POINTER(c_void_p), _ERROR)),
    "strop_engine_destroy": (None, (c_void_p,)),
    "strop_engine_input_count": (c_uint32, (c_void_p,)),
    "strop_engine_output_count": (c_uint32, (c_void_p,)),
    "strop_engine_step_count": (c_uint32, (c_void_p,)),
    "strop_engine_input_info": (c_int32, (c_void_p, c_uint32, POINTER(TensorStruct), _ERROR)),
    "strop_engine_output_info": (c_int32, (c_void_p, c_uint32, POINTER(TensorStruct), _ERROR)),
    "strop_engine_step_info": (c_int32, (c_void_p, c_uint32, POINTER(StepStruct), _ERROR)),
    "strop_engine_manifest": (c_void_p, (c_void_p, POINTER(c_size_t))),
    "strop_engine_graph": (c_void_p, (c_void_p, POINTER(c_size_t))),
    "strop_engine_target": (c_char_p, (c_void_p,)),
    "strop_engine_isa": (c_char_p, (c_void_p,)),
    "strop_engine_memory": (None, (c_void_p, POINTER(MemoryStruct))),
    "strop_engine_check_custom": (c_int32, (c_void_p, _ERROR)),
    "strop_register_custom": (c_int32, (c_char_p, c_void_p, c_void_p, _ERROR)),
    "strop_register_kernel": (c_int32, (c_char_p, c_void_p, _ERROR)),
    "strop_context_create": (c_int32, (c_void_p, c_int32, POINTER(c_void_p), _ERROR)),
    "strop_context_destroy": (None, (c_void_p,)),
    "strop_context_threads": (c_int32, (c_void_p,)),
    "strop_context_memory": (None, (c_void_p, POINTER(MemoryStruct))),
    "strop_context_resize": (c_int32, (c_void_p, c_void_p, _ERROR)),
    "strop_context_output_info": (c_int32, (c_void_p, c_uint32, POINTER(TensorStruct), _ERROR)),
    # Called once per inference with arguments that are ctypes objects already: no conversions.
    "strop_context_call": (c_int32, ()),
    "strop_context_profile": (
        c_int32,
        (c_void_p, c_uint32, POINTER(c_uint64), c_uint32, _ERROR),
    ),
}
#: Functions that a runtime of the same interface may lack; they are missed when they are called.
_OPTIONAL: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "strop_context_run_steps": (c_int32, (c_void_p, c_uint32, c_uint32, _ERROR)),
    "strop_context_create_lean": (c_int32, (c_void_p, c_int32, POINTER(c_void_p), _ERROR)),
    "strop_context_lend": (c_int32, (c_void_p, c_void_p, c_uint64, _ERROR)),
    "strop_context_room": (c_uint64, (c_void_p,)),
    "strop_context_operand": (
        c_int32,
        (c_void_p, c_uint32, c_uint32, POINTER(c_void_p), POINTER(c_uint64), _ERROR),
    ),
}


class Library:
    """The functions of strop.h, by name."""

    def __init__(self, path: str) -> None:
        """Load the shared object at `path`; raises OSError."""
        self._dll = ctypes.CDLL(path)
        for name, (result, arguments) in (_PROTOTYPES | _OPTIONAL).items():
            if name in _OPTIONAL and not hasattr(self._dll, name):
                continue
            function = self._dll[name]
            function.restype = result
            if arguments:
                function.argtypes = arguments
            setattr(self, name, function)
        #: strop_context_call without releasing the interpreter lock: for runs that take less than handing it over.
        self.strop_context_call_held = PYFUNCTYPE(c_int32)(cast(self._dll["strop_context_call"], c_void_p).value or 0)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the runtime has no function {name}")

    def check(self, code: int, error: ErrorStruct, where: str) -> None:
        """Raise what a failed call reported as the exception it stands for; nothing for 0."""
        if code == 0:
            return
        text = error.message.decode("utf-8", "replace").removeprefix(f"{where}: ")
        if code == _ERR_CUSTOM:
            raise_custom(text, where)
        kind: type[StropError] = RuntimeFailure
        hint = None
        if code == _ERR_ISA:
            kind, hint = TargetError, "build the engine for this CPU: strop build --target host"
        elif code == _ERR_SHAPE:
            kind, hint = InputError, "strop inspect shows the shapes that an engine serves"
        elif code == _ERR_DATA:
            kind, hint = InputError, "build the engine with a larger range for it: --shape"
        elif code in (_ERR_FILE, _ERR_VERSION, _ERR_CODE):
            kind, hint = EngineFileError, "build the engine again, or copy it again"
        raise kind(text, where=where, hint=hint)


def raise_custom(text: str, where: str) -> NoReturn:
    """Raises what a custom layer did wrong, from what its callback raised."""
    raised = callbacks.take_raised()
    if raised is not None and not isinstance(raised, Exception):
        raise raised  # the user's Ctrl-C
    if isinstance(raised, CustomError) and raised.__cause__ is not None:
        raised = raised.__cause__
    hint = "docs/custom.md says how custom layers are declared and registered" if raised is None else None
    raise CustomError(text, where=where, hint=hint) from raised


# ---- loading -------------------------------------------------------------------------------------

_loaded: dict[int, Library] = {}
_loading = threading.Lock()


def runtime_name() -> str:
    """The name of runtime sections that this process can load, e.g. ``linux-x86_64``."""
    machine = platform.machine().lower()
    return f"{sys.platform}-{_MACHINES.get(machine, machine)}"


def library_of(file: EngineFile) -> Library:
    """The runtime for an engine file: the one already loaded, else the one the file carries.

    All engines of a process share one library, and with it the thread pool.

    Raises:
        TargetError: the file has no runtime for this operating system and processor.
        EngineFileError: the runtime in the file is corrupt, of another version or unloadable.
    """
    name = runtime_name()
    entry = file.find(SectionKind.RUNTIME, name)
    if entry is None:
        there = [e.name for e in file.sections if e.kind == SectionKind.RUNTIME]
        raise TargetError(
            "the engine has no runtime for this system",
            where=file.where,
            got=", ".join(there) or "no runtime at all",
            expected=name,
            hint="build the engine on, or with --target for, this system",
        )
    if entry.flags != RUNTIME_ABI:
        raise EngineFileError(
            "the runtime in the engine file has another interface",
            where=file.where,
            got=f"version {entry.flags}",
            expected=f"version {RUNTIME_ABI}",
            hint="build the engine again with this version of Strop",
        )
    with _loading:
        if entry.flags not in _loaded:
            _loaded[entry.flags] = _load(file, entry)
        return _loaded[entry.flags]


def _load(file: EngineFile, entry: SectionEntry) -> Library:
    data = file.read(entry).tobytes()
    try:
        library = _load_bytes(data)
    except (OSError, AttributeError) as error:
        raise EngineFileError(
            "the runtime in the engine file cannot be loaded",
            where=file.where,
            got=error,
            hint="build the engine again",
        ) from error
    if library.strop_abi_version() != entry.flags:
        raise EngineFileError(
            "the runtime in the engine file is not what its section says",
            where=file.where,
            got=f"version {library.strop_abi_version()}",
            expected=f"version {entry.flags}",
        )
    callbacks.install(library)
    return library


def _load_bytes(data: bytes) -> Library:
    if not hasattr(os, "memfd_create"):
        with tempfile.NamedTemporaryFile(prefix="strop-", suffix=".so") as file:
            file.write(data)
            file.flush()
            return Library(file.name)
    descriptor = os.memfd_create("strop-runtime", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as memory:
            memory.write(data)
        # The dynamic linker knows libraries by path, and a descriptor's number is soon reused:
        # a spelling that nobody else has keeps this library apart from others loaded like it.
        return Library(f"/proc/self/fd/{'./' * 32}{descriptor}")
    finally:
        os.close(descriptor)
