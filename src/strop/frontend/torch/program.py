"""Modules and files to exported programs, decomposed as far as the registry asks for."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from strop.errors import ModelError, OptionError, StropError, UnsupportedError
from strop.frontend.torch.registry import RULES
from strop.frontend.torch.whole import WholeLayers, whole_nodes

_EXPORT = "torch.export.export(module, example_inputs) must work; see https://pytorch.org/docs/stable/export.html"

Examples = Sequence[Any] | Mapping[str, Any]


def program_of(model: Any, example_inputs: Examples | None, dynamic_shapes: Any) -> ExportedProgram:
    """The exported program of a model, in which every op of the registry is left whole and nothing is changed in place.

    Args:
        model: path of a .pt2 file, an ExportedProgram, or a module.
        example_inputs: of a module.
        dynamic_shapes: of a module, as ``torch.export.export`` takes it.

    Raises:
        ModelError: the file cannot be read, or PyTorch cannot export the module.
        OptionError: a module comes without example inputs, or something else with them.
        UnsupportedError: a scripted module.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise UnsupportedError(
            "TorchScript modules are not read", where=f"the given {type(model).__name__}", expected="a module, or an ExportedProgram",
            hint="give the module that it was scripted from to strop.build",
        )  # fmt: skip
    if isinstance(model, torch.nn.Module):
        program = _exported(model, example_inputs, dynamic_shapes)
    else:
        name = "example_inputs" if example_inputs is not None else "dynamic_shapes"
        if example_inputs is not None or dynamic_shapes is not None:
            raise OptionError(
                f"an exported program takes no {name}", where=f"argument {name}", hint="it was exported with its own; leave it out"
            )
        program = _loaded(model) if isinstance(model, (str, Path)) else model
    if not isinstance(program, ExportedProgram):
        raise UnsupportedError(
            "this PyTorch object is no network", got=type(model).__qualname__, expected="a torch.nn.Module or an ExportedProgram",
            hint="give the module that it comes from",
        )  # fmt: skip
    return _decomposed(program)


#: Per axis the name and the smallest value of a Dim that the caller gave.
Labels = dict[int, tuple[str, int]]


def labels_of(module: Any, example_inputs: Examples | None, dynamic_shapes: Any) -> list[Labels]:
    """Names of the Dims in ``dynamic_shapes``, one dict per leaf of the example inputs; of a derived dim, such as 4 * width, its root's."""
    if example_inputs is None or not dynamic_shapes or not isinstance(module, torch.nn.Module):
        return []
    args, kwargs = _arguments(example_inputs)
    names = [*list(inspect.signature(module.forward).parameters)[: len(args)], *kwargs]
    by_name = dynamic_shapes if isinstance(dynamic_shapes, Mapping) else dict(zip(names, dynamic_shapes, strict=False))
    found: list[Labels] = []

    def walk(example: Any, spec: Any) -> None:
        if isinstance(example, Mapping):
            for key, item in example.items():
                walk(item, spec.get(key) if isinstance(spec, Mapping) else None)
        elif isinstance(example, (list, tuple)):
            each = spec if isinstance(spec, (list, tuple)) and len(spec) == len(example) else [None] * len(example)
            for item, own in zip(example, each, strict=True):
                walk(item, own)
        else:
            found.append(_labels(spec))

    for name, example in zip(names, (*args, *kwargs.values()), strict=False):
        walk(example, by_name.get(name))
    return found


def _labels(spec: Any) -> Labels:
    """What a tensor's dynamic shape, a dict by axis or a sequence, says by name."""
    axes = spec.items() if isinstance(spec, Mapping) else enumerate(spec) if isinstance(spec, (list, tuple)) else ()
    roots: dict[int, Any] = {axis: getattr(dim, "root", dim) for axis, dim in axes}
    return {axis: (root.__name__, int(getattr(root, "min", 1))) for axis, root in roots.items() if hasattr(root, "__name__")}


def _arguments(example_inputs: Examples) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments."""
    return ((), dict(example_inputs)) if isinstance(example_inputs, Mapping) else (tuple(example_inputs), {})


def _exported(module: torch.nn.Module, example_inputs: Examples | None, dynamic_shapes: Any) -> ExportedProgram:
    name = type(module).__name__
    if example_inputs is None:
        raise OptionError(
            "a PyTorch module needs example inputs", where=f"building {name}", expected="example_inputs=(x, ...)",
            hint="tensors of the shapes that the module is called with; dims that vary are named by dynamic_shapes",
        )  # fmt: skip
    if isinstance(example_inputs, (str, bytes)) or not isinstance(example_inputs, (Sequence, Mapping)):
        raise OptionError(
            "example inputs are a sequence or a dict", where="argument example_inputs", got=type(example_inputs).__name__,
            expected="a tuple of positional arguments, or a dict of keyword arguments", hint="(x,) for a single tensor",
        )  # fmt: skip
    args, kwargs = _arguments(example_inputs)
    with _quiet(), torch.no_grad(), WholeLayers(), _told(f"PyTorch cannot export the module {name}"):
        return torch.export.export(module, args, kwargs, dynamic_shapes=dynamic_shapes)


def _loaded(path: str | Path) -> ExportedProgram:
    hint = f"torch.export.load({str(path)!r}) must work with the PyTorch that is installed, {torch.__version__}"
    with _quiet(), _told(f"the exported program {path} cannot be read", hint):
        return torch.export.load(str(path))


def _decomposed(program: ExportedProgram) -> ExportedProgram:
    table = torch.export.default_decompositions()
    for op in list(table.keys()):
        if str(op) in RULES:
            table.pop(op)
    whole = whole_nodes(program.graph_module.graph)
    with _quiet(), torch.no_grad(), whole, _told("PyTorch cannot decompose the exported program"):
        return program.run_decompositions(table)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what PyTorch says about its own workings; an error is told whole by ``_told``."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def _told(what: str, hint: str = _EXPORT) -> Iterator[None]:
    """Turns whatever PyTorch raises into a ModelError that keeps its words."""
    try:
        yield
    except StropError:
        raise
    except Exception as error:  # its exporter raises errors of many classes, and those of the module itself
        lines = [line for line in str(error).strip().splitlines() if line.strip()]
        told = "\n    ".join(lines[:12]) or type(error).__name__
        raise ModelError(
            what,
            got=f"{type(error).__name__}: {told}",
            hint=hint,
        ) from error
