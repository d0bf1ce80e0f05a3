"""Random LSTM, GRU and RNN nodes as ONNX has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, helper

Array = np.ndarray[Any, Any]

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
FUNCTIONS = {"RNN": 1, "GRU": 2, "LSTM": 3}
NAMES = ("x", "w", "r", "b", "lens", "h0", "c0", "p")
WEIGHTS = ("w", "r", "b", "p")
#: Those whose defaults are those of an ONNX op.
ACTIVATIONS = ("Relu", "Tanh", "Sigmoid", "LeakyRelu", "HardSigmoid", "Elu", "Softsign", "Softplus")


def operands(
    rng: np.random.Generator,
    kind: str,
    sizes: tuple[int, int, int, int],
    directions: int = 1,
    left_out: Sequence[str] = (),
    batch_first: bool = False,
) -> dict[str, Array]:
    """Arrays by name for sizes S, B, I, H."""
    steps, samples, size, hidden = sizes
    rows = GATES[kind] * hidden
    state = (samples, directions, hidden) if batch_first else (directions, samples, hidden)
    shapes = {
        "x": (samples, steps, size) if batch_first else (steps, samples, size),
        "w": (directions, rows, size),
        "r": (directions, rows, hidden),
        "b": (directions, 2 * rows),
        "h0": state,
        "c0": state,
        "p": (directions, 3 * hidden),
    }
    found: dict[str, Array] = {}
    for name in NAMES if kind == "LSTM" else NAMES[:6]:
        if name == "lens":
            found[name] = rng.integers(1, steps + 1, samples).astype(np.int32)
        else:
            found[name] = rng.uniform(-1, 1, shapes[name]).astype(np.float32)
    found["r"] /= np.float32(hidden**0.5)  # errors must not grow from step to step
    return {name: array for name, array in found.items() if name not in left_out}


def node(
    kind: str, given: Sequence[str], outputs: Sequence[str], prefix: str = "", **attributes: Any
) -> NodeProto:
    """A node that reads ``prefix`` + name for the operands ``given``."""
    names = [prefix + n if n in given else "" for n in NAMES[: 8 if kind == "LSTM" else 6]]
    while not names[-1]:
        names.pop()
    return helper.make_node(kind, names, outputs, name=f"{prefix}node", **attributes)


def random_node(
    rng: np.random.Generator, kind: str, prefix: str = ""
) -> tuple[NodeProto, dict[str, Array]]:
    """A node that ONNX Runtime takes, of random sizes, operands and attributes, and its arrays by the names it reads.

    Its results are ``prefix`` + y, y_h, y_c, one of them left out at times.
    """
    direction = str(rng.choice(["forward", "reverse", "bidirectional"]))
    directions = 2 if direction == "bidirectional" else 1
    sizes = tuple(int(rng.integers(1, high)) for high in (10, 6, 9, 36))
    left_out = [n for n in ("b", "lens", "h0", "c0", "p") if rng.random() < 0.4]
    arrays = operands(rng, kind, sizes, directions, left_out)  # type: ignore[arg-type]
    attributes: dict[str, Any] = {"hidden_size": sizes[3], "direction": direction}
    if rng.random() < 0.5:
        names = rng.choice(ACTIVATIONS, FUNCTIONS[kind] * directions)
        attributes["activations"] = [str(n) for n in names]
        attributes["activation_alpha"] = [round(float(a), 2) for a in rng.uniform(0.1, 0.9, 6)]
        attributes["activation_beta"] = [0.4] * 6
    if rng.random() < 0.4:
        attributes["clip"] = round(float(rng.uniform(0.3, 2.0)), 2)
    if kind == "GRU":
        attributes["linear_before_reset"] = int(rng.integers(2))
    if kind == "LSTM":
        attributes["input_forget"] = int(rng.integers(2))
    outputs = [prefix + n for n in ("y", "y_h", "y_c")[: 3 if kind == "LSTM" else 2]]
    if rng.random() < 0.5:
        outputs[int(rng.integers(len(outputs)))] = ""
    made = node(kind, list(arrays), outputs, prefix, **attributes)
    return made, {prefix + name: array for name, array in arrays.items()}
