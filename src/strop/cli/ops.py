"""``strop ops``: the source ops that can be read, and the kernels."""

from __future__ import annotations

import inspect
from typing import Annotated

import typer

from strop.cli.output import show_json, table
from strop.frontend.keras import supported_layers
from strop.frontend.onnx import supported_op_types
from strop.frontend.saved_model import supported_operators as supported_tensorflow
from strop.frontend.tflite import supported_operators
from strop.frontend.torch import supported_overloads
from strop.kernels.table import KERNELS


def command(
    kernels: Annotated[bool, typer.Option("--kernels", help="List the kernels instead.")] = False,
    torch: Annotated[bool, typer.Option("--torch", help="List the ATen and torchvision overloads instead.")] = False,
    tflite: Annotated[bool, typer.Option("--tflite", help="List the operators of TensorFlow Lite instead.")] = False,
    tensorflow: Annotated[bool, typer.Option("--tensorflow", help="List the ops of TensorFlow (SavedModel) instead.")] = False,
    keras: Annotated[bool, typer.Option("--keras", help="List the layers of Keras instead.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Lists ONNX ops with the opsets they are read from, PyTorch, TensorFlow or TensorFlow Lite ops, Keras layers, or the kernels."""
    if kernels:
        rows = {kernel.name: _sentence(kernel) for kernel in KERNELS}
        columns = ("kernel", "what it does")
    elif torch:
        rows = supported_overloads()
        columns = ("PyTorch op", "read by")
    elif tflite:
        rows = supported_operators()
        columns = ("TensorFlow Lite op", "read by")
    elif tensorflow:
        rows = supported_tensorflow()
        columns = ("TensorFlow op", "read by")
    elif keras:
        rows = supported_layers()
        columns = ("Keras layer", "read by")
    else:
        rows = supported_op_types()
        columns = ("ONNX op", "opsets")
    if json:
        show_json(rows)
        return
    table(columns, rows.items())
    print(f"{len(rows)} {'kernels' if kernels else 'layers' if keras else 'ops'}")


def _sentence(kernel: object) -> str:
    """First line of the docstring of the module that holds the kernel."""
    module = inspect.getmodule(type(kernel))
    return ((module.__doc__ if module else None) or type(kernel).__doc__ or "").strip().split("\n")[0]
