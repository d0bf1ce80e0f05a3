"""What verbs share in reading their arguments: engines or models, shapes, and arrays from files."""

from __future__ import annotations

import os
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop.cli.output import warn
from strop.engine.engine import Engine, load
from strop.engine.format import MAGIC, read_sections
from strop.engine.placement import told
from strop.errors import InputError, OptionError, PlacementWarning
from strop.files import replacing
from strop.frontend.formats import TFLITE, kind_of
from strop.ir.ranges import FORM, parse_shape
from strop.quantize.data import PREPROCESSING
from strop.quantize.ranges import BEST, CALIBRATORS, TRIED
from strop.trace import Progress

Array = NDArray[Any]

#: Of the option --shape.
SHAPE_HELP = (
    "Shape of an input: name=1x3x224x224, or with ranges of free dims name=1..8(1)x3x32..960(320)%32x640 "
    "(min..max, the optimum, what it is a multiple of); or a free dim by its name, batch=1..8; or name==16000 for an input that always has this value. "
    "name[]=1..100: how large sizes may become that the elements of this value decide, or that it gets from data. Repeatable."
)
#: Of the option --signature.
SIGNATURE_HELP = "Of a SavedModel or .tflite file with several: the key of the one to read."
#: Of options about samples.
DATA_HELP = "Samples: an .npy or .npz file, or a folder of images or .npy files."
CALIBRATOR_HELP = f"{', '.join(CALIBRATORS)}; parameters after a colon, percentile:99.9; {BEST}: of {' and '.join(TRIED)} the one that leaves most signal at the outputs."
PREPROCESS_HELP = f"Of images: {', '.join(PREPROCESSING)}."

#: What numpy raises on a file that holds no array.
_UNREADABLE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, MemoryError)


def is_engine(path: Path) -> bool:
    """True for a file that is, or by its name should be, an engine.

    Raises:
        OptionError: there is no such file.
    """
    if path.is_dir():  # a SavedModel
        return False
    try:
        with path.open("rb") as file:
            start = file.read(len(MAGIC))
    except (OSError, ValueError) as error:
        raise OptionError(
            "the file cannot be read",
            where=str(path),
            got=getattr(error, "strerror", None) or error,
            expected="an engine file or an ONNX model",
        ) from None
    return start == MAGIC or path.suffix == ".strop"


def build(model: Path, **options: Any) -> Engine:
    """``strop.engine.build.build``, imported at first use: verbs that only run engines need no compiler."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PlacementWarning)
        engine: Engine = import_module("strop.engine.build").build(model, **options)
    if engine.placement:
        warn(told(engine.placement, len(engine.manifest["steps"])))
    return engine


def stored_shapes(model: Path, signature: str | None) -> dict[str, tuple[int, ...]]:
    """Shapes that a TensorFlow Lite file has for its inputs, where it leaves sizes open too.

    Raises:
        OptionError: a model of another kind, or no such signature.
    """
    if kind_of(model) != TFLITE:
        raise OptionError("only a TensorFlow Lite file stores shapes beside sizes that are free", got=model, expected="a .tflite file")
    found: dict[str, tuple[int, ...]] = import_module("strop.frontend.tflite.reader").stored_shapes(model, signature)
    return found


def load_function(text: str) -> Callable[..., Any]:
    """The function that ``module:function`` names; the module is imported as Python finds it, the current folder included.

    Raises:
        OptionError: there is no such module or function.
    """
    module, _, name = text.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise OptionError("the plug-in cannot be loaded", got=text, expected="module:function", hint=str(error)) from error
    if not callable(found):
        raise OptionError("the plug-in is no function", got=text, expected="module:function")
    function: Callable[..., Any] = found
    return function


def open_engine(
    path: Path,
    *,
    threads: int | None = None,
    shapes: Sequence[str] = (),
    signature: str | None = None,
    progress: Progress | None = None,
) -> Engine:
    """Loads an engine file, or builds a model at level 0 in memory."""
    if is_engine(path):
        if shapes:
            raise OptionError("an engine's shapes are fixed", where="--shape", hint="give --shape to strop build")
        if signature is not None:
            raise OptionError("an engine has one signature", where="--signature", got=signature, hint="give --signature to strop build")
        return load(path, threads=threads)
    return build(path, level=0, threads=threads, shapes=parse_shapes(shapes), signature=signature, progress=progress)


def lazy_engine(path: Path, **options: Any) -> Engine:
    """``open_engine``, with the native part of an engine file left to be loaded at first use, so that this can be measured."""
    if is_engine(path) and not options.get("shapes") and options.get("signature") is None:
        return Engine(path, threads=options.get("threads"))
    return open_engine(path, **options)


def open_any_engine(path: Path) -> Engine:
    """Opens an engine of any machine without loading its code; every byte is checked.

    Raises:
        EngineFileError: not an engine file, truncated or changed.
    """
    for _ in read_sections(path):
        pass
    return Engine(path)


def parse_shapes(texts: Sequence[str]) -> dict[str, str] | None:
    """``name=1x3x224x224``, ``name=1..8x3x32..960(320)%32x640`` and ``name==16000`` texts to a dict; None when there are none.

    Raises:
        OptionError: names the text that is not of this form.
    """
    shapes: dict[str, str] = {}
    for text in texts:
        name, _, dims = text.rpartition("=")
        is_value = name.endswith("=")
        name = name.removesuffix("=")
        try:
            if not is_value:
                parse_shape(dims, "--shape")
        except OptionError as error:
            raise OptionError(
                "unusable shape", where="--shape", got=text,
                expected=f"name=1x3x224x224, or name= for a scalar; each dim {FORM}" if error.expected == FORM else error.expected,
            ) from None  # fmt: skip
        if not name:
            raise OptionError(
                "unusable shape", where="--shape", got=text, expected="name=1x3x224x224, or name= for a scalar"
            )
        if name in shapes:
            raise OptionError("the input is given two shapes", where="--shape", got=name)
        shapes[name] = f"={dims}" if is_value else dims
    return shapes or None


def parse_layers(texts: Sequence[str]) -> dict[str, str]:
    """``pattern=precision`` texts to a dict; OptionError names the text that is not of this form."""
    found: dict[str, str] = {}
    for text in texts:
        pattern, _, precision = text.rpartition("=")
        if not pattern:
            raise OptionError("unusable precision of layers", where="--layer-precision", got=text, expected="PATTERN=PRECISION")
        found[pattern] = precision
    return found


def check_output(path: Path, where: str) -> None:
    """OptionError when a file cannot be made at this place; asked before long work, not instead of handling a failure."""
    folder = path.absolute().parent
    problem = None
    if path.is_dir():
        problem = "a folder"
    elif not folder.is_dir():
        problem = f"no folder {folder}"
    elif not os.access(folder, os.W_OK):
        problem = f"folder {folder} is not writable"
    if problem is not None:
        raise OptionError(
            "cannot write the output file",
            where=f"{where} {path}",
            got=problem,
            expected="a path in a writable folder",
            hint="make the folder, or write elsewhere",
        )


def read_inputs(engine: Engine, texts: Sequence[str]) -> dict[str, Array]:
    """Arrays for an engine's inputs from ``name=file.npy``, ``file.npy`` (an only input) and ``file.npz`` texts.

    Raises:
        InputError: a file holds no arrays, or it is not clear which input one is for.
    """
    return read_arrays([t.name for t in engine.inputs] if texts else [], texts)


def read_arrays(names: Sequence[str], texts: Sequence[str]) -> dict[str, Array]:
    """The same for inputs of these names."""
    arrays: dict[str, Array] = {}
    for text in texts:
        name, _, file = text.rpartition("=")
        if not name and Path(file).suffix == ".npz":
            found = _read_npz(Path(file))
        elif not name and len(names) == 1:
            found = {names[0]: _read_npy(Path(file))}
        elif name:
            found = {name: _read_npy(Path(file))}
        else:
            expected = ", ".join(f"{n}=FILE" for n in names)
            raise InputError("which input is the array for?", where="--input", got=text, expected=expected)
        for key, array in found.items():
            if key in arrays:
                raise InputError("the input is given twice", where="--input", got=key)
            arrays[key] = array
    return arrays


def _read_npy(path: Path) -> Array:
    try:
        with path.open("rb") as file:
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
    except _UNREADABLE as error:
        raise _no_array(path, error, "an array written by numpy.save") from error


def _read_npz(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: np.asarray(archive[name]) for name in archive.files}
    except _UNREADABLE as error:
        raise _no_array(path, error, "arrays written by numpy.savez") from error


def _no_array(path: Path, error: BaseException, expected: str) -> InputError:
    got = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
    return InputError("cannot read the input file", where=str(path), got=got, expected=expected)


def write_text(path: Path, text: str) -> None:
    """Writes a text file, whole or not at all; OptionError when it cannot be written."""
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OptionError("cannot write the output file", where=str(path), got=error.strerror or error, hint="write elsewhere") from error


def write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Writes arrays by name as numpy.savez does, whole or not at all. Any name is allowed.

    Raises:
        OptionError: the file cannot be written.
    """
    try:
        with replacing(path) as temporary, zipfile.ZipFile(temporary, "x", zipfile.ZIP_STORED) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
    except OSError as error:
        raise OptionError(
            "cannot write the output file", where=str(path), got=error.strerror or error, hint="write elsewhere"
        ) from error
