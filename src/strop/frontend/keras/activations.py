"""Keras's activation functions by their names."""

from __future__ import annotations

from typing import Any

from strop.frontend.keras.context import LayerContext
from strop.ir.graph import Value
from strop.ops.softmax import LogSoftmax, Softmax

#: Function and params.
FUNCTIONS: dict[str, tuple[str, dict[str, float]]] = {
    "celu": ("celu", {}),
    "elu": ("elu", {}),
    "exponential": ("exp", {}),
    "hard_shrink": ("shrink", {"lambd": 0.5, "bias": 0.0}),
    "hard_silu": ("hard_swish", {}),
    "hard_swish": ("hard_swish", {}),
    "hard_tanh": ("clip", {"lo": -1.0, "hi": 1.0}),
    "leaky_relu": ("leaky_relu", {"alpha": 0.2}),
    "log_sigmoid": ("log_sigmoid", {}),
    "mish": ("mish", {}),
    "relu": ("relu", {}),
    "relu6": ("clip", {"lo": 0.0, "hi": 6.0}),
    "selu": ("selu", {}),
    "sigmoid": ("sigmoid", {}),
    "silu": ("silu", {}),
    "softplus": ("softplus", {}),
    "softsign": ("softsign", {}),
    "swish": ("silu", {}),
    "tanh": ("tanh", {}),
}
#: ``hard_sigmoid`` is another line in Keras 2 and before than in Keras 3.
HARD_SIGMOID = {1: (0.2, 0.5), 2: (0.2, 0.5), 3: (1 / 6, 0.5)}


def function_of(node: LayerContext, given: Any, what: str = "activation") -> tuple[str, dict[str, Any]]:
    """Name and configuration of an activation: a word, or an object that stands for a function or a layer.

    Raises:
        UnsupportedError: code, or a function that is not Keras's own.
        ModelError: anything else.
    """
    if given is None:
        return "linear", {}
    if isinstance(given, str):
        return given, {}
    if isinstance(given, dict):
        kind, config = given.get("class_name"), given.get("config")
        if kind == "function" and isinstance(config, str):
            return config, {}
        if kind == "__lambda__" or (isinstance(config, dict) and "code" in config):
            raise node.unsupported(f"its {what} is Python code, which is not run", got=kind, hint="use one of Keras's own functions")
        if isinstance(kind, str) and isinstance(config, dict):
            return kind, config
    raise node.malformed(f"{what} is malformed", got=repr(given)[:80])


def activated(node: LayerContext, x: Value, given: Any) -> Value:
    """A value behind an activation function, as a configuration gives it."""
    name, config = function_of(node, given)
    if config or name not in _ALL:
        if name in _LAYERS:
            return _LAYERS[name](node, x, config)
        raise node.unsupported("this activation function is not supported", got=name, expected=", ".join(sorted(_ALL)))
    if name == "linear":
        return x
    if name == "softmax" or name == "log_softmax":
        return node.step((Softmax if name == "softmax" else LogSoftmax)(-1), x)
    if name == "gelu":  # an activation's name stands for the exact function
        return node.apply("gelu", x)
    if name == "hard_sigmoid":
        alpha, beta = HARD_SIGMOID[node.major]
        return node.apply("hard_sigmoid", x, alpha=alpha, beta=beta)
    fn, params = FUNCTIONS[name]
    return node.apply(fn, x, **params)


_ALL = frozenset((*FUNCTIONS, "linear", "softmax", "log_softmax", "gelu", "hard_sigmoid"))


def _number(node: LayerContext, config: dict[str, Any], *names: str, default: float) -> float:
    for name in names:
        if config.get(name) is not None:
            found = config[name]
            if isinstance(found, bool) or not isinstance(found, (int, float)):
                raise node.malformed(f"{name} is no number", got=repr(found)[:80])
            return float(found)
    return default


def rectified(node: LayerContext, x: Value, config: dict[str, Any]) -> Value:
    """ReLU: x from the threshold on, at most max_value; below it a slope."""
    most = config.get("max_value")
    slope, threshold = (_number(node, config, name, default=0.0) for name in ("negative_slope", "threshold"))
    high = _number(node, config, "max_value", default=0.0)
    if slope == 0 and threshold == 0:
        return node.apply("relu", x) if most is None else node.apply("clip", x, lo=0.0, hi=high)
    top = x if most is None else node.apply("clip", x, hi=high)
    low = node.apply("affine", x, alpha=slope, beta=-slope * threshold)
    return node.apply("where", node.apply("ge", x, node.like(threshold, x)), top, low)


def leaky(node: LayerContext, x: Value, config: dict[str, Any]) -> Value:
    """LeakyReLU, whose slope Keras 2 calls alpha."""
    return node.apply("leaky_relu", x, alpha=_number(node, config, "negative_slope", "alpha", default=0.3))


def exponential_unit(node: LayerContext, x: Value, config: dict[str, Any]) -> Value:
    """ELU."""
    return node.apply("elu", x, alpha=_number(node, config, "alpha", default=1.0))


def thresholded(node: LayerContext, x: Value, config: dict[str, Any]) -> Value:
    """ThresholdedReLU."""
    return node.apply("thresholded_relu", x, alpha=_number(node, config, "theta", default=1.0))


def softmax(node: LayerContext, x: Value, config: dict[str, Any]) -> Value:
    """Softmax over an axis."""
    axis = config.get("axis", -1)
    if isinstance(axis, list) and len(axis) == 1:
        axis = axis[0]
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise node.unsupported("a softmax over several axes is not supported", got=repr(axis)[:80])
    return node.step(Softmax(node.axis(axis, x.type.rank)), x)


_LAYERS = {"ReLU": rectified, "LeakyReLU": leaky, "ELU": exponential_unit, "ThresholdedReLU": thresholded, "Softmax": softmax}
