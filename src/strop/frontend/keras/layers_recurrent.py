"""Keras's recurrent layers, what wraps layers, and attention."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from strop.errors import OptionError
from strop.frontend.keras import activations
from strop.frontend.keras.context import LayerContext
from strop.frontend.keras.layers_core import product
from strop.frontend.keras.registry import RULES, keras_layer
from strop.frontend.tensorflow import slices
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ir.op import Array
from strop.ops.attention import Attention
from strop.ops.data import Concat
from strop.ops.recurrent import GRU, LSTM, RNN, Activation, Recurrent
from strop.ops.recurrent import activation as stateful

#: Class of a layer: its op, how many gates it has, and where the op's gates are among the layer's.
_KINDS: dict[str, tuple[type[Recurrent], tuple[int, ...]]] = {"SimpleRNN": (RNN, (0,)), "GRU": (GRU, (0, 1, 2)), "LSTM": (LSTM, (0, 3, 1, 2))}


def _activation(node: LayerContext, given: object) -> Activation:
    name, config = activations.function_of(node, given)
    if config:
        raise node.unsupported("this activation function of a recurrent layer is not supported", got=name)
    if name == "linear":
        return stateful("affine", 1.0, 0.0)
    if name == "hard_sigmoid":
        return stateful("hard_sigmoid", *activations.HARD_SIGMOID[node.major])
    fn, params = activations.FUNCTIONS.get(name, ("", {}))
    try:
        found = stateful(fn, params.get("alpha"), params.get("beta")) if fn and set(params) <= {"alpha", "beta"} else None
    except (KeyError, OptionError):
        found = None
    if found is None:
        raise node.unsupported("this activation function of a recurrent layer is not supported", got=name)
    return found


class _Layer:
    """A recurrent layer's configuration and weights, for the op of one direction or both."""

    def __init__(self, node: LayerContext, kind: str, config: dict[str, object]) -> None:
        inner = LayerContext(node.graph, node.reserved, node.name, kind, config, node.operands, {}, node.weights, node.major)
        for name in ("stateful", "time_major"):
            if inner.flag(name):
                raise node.unsupported(f"{name} is not supported", hint="build the layer without it")
        self.kind, self.units = kind, inner.whole("units")
        self.sequences, self.state, self.backwards = (inner.flag(name) for name in ("return_sequences", "return_state", "go_backwards"))
        self.biased = inner.flag("use_bias", True)
        self.after = kind == "GRU" and inner.flag("reset_after", False)
        outer = _activation(node, inner.option("activation", "tanh"))
        gates = () if kind == "SimpleRNN" else (_activation(node, inner.option("recurrent_activation", "sigmoid")),)
        self.activations = (*gates, outer, *((outer,) if kind == "LSTM" else ()))

    def op(self, direction: str) -> Recurrent:
        """The op for a direction."""
        kind, _ = _KINDS[self.kind]
        made = kind(direction, self.activations * (2 if direction == "bidirectional" else 1))
        return made.replace(linear_before_reset=True) if isinstance(made, GRU) and self.after else made

    def arrays(self, node: LayerContext, given: Sequence[Array]) -> tuple[Array, Array, Array | None]:
        """Weights [G H, I] and [G H, H], and biases [2 G H], in the op's order of gates."""
        _, order = _KINDS[self.kind]
        names = ["kernel", "recurrent_kernel", *(["bias"] if self.biased else [])]
        width = self.units * len(order)
        if len(given) != len(names) or given[0].ndim != 2 or given[0].shape[1] != width or given[1].shape != (self.units, width):
            raise node.malformed("the weights do not fit", got=[list(a.shape) for a in given], expected=f"{', '.join(names)} of {self.units} units")
        w, r = (_gates(np.asarray(a, np.float32).T, order) for a in given[:2])
        if not self.biased:
            return w, r, None
        bias = np.asarray(given[2], np.float32)
        if bias.shape != ((2, width) if self.after else (width,)):
            raise node.malformed("the weights do not fit", got=list(bias.shape), expected=f"a bias of {width}")
        both = bias if self.after else np.stack([bias, np.zeros_like(bias)])
        return w, r, np.concatenate([_gates(b, order) for b in both])


def _gates(array: Array, order: Sequence[int]) -> Array:
    """The blocks of gates along axis 0 in another order."""
    parts = np.split(array, len(order))
    return np.concatenate([parts[k] for k in order])


def _run(node: LayerContext, layer: _Layer, op: Recurrent, halves: Sequence[Sequence[Array]], states: Sequence[Value]) -> tuple[Value, ...]:
    """The op's results: y [T, D, B, H], the state, of LSTM the cell too, [D, B, H] each.

    Args:
        node: emits it.
        layer: the configuration.
        op: the op.
        halves: weights per direction.
        states: first states [B, H], per direction; empty for zeros.
    """
    x = node.floats()
    if x.type.rank != 3:
        raise node.malformed("its operand has another rank", got=x.type, expected="[batch, steps, features]")
    found = [layer.arrays(node, half) for half in halves]
    w, r = (node.weight(name, np.stack(parts)) for name, parts in (("kernel", [f[0] for f in found]), ("recurrent_kernel", [f[1] for f in found])))
    if x.shape[2] != w.shape[2]:
        raise node.malformed("the weights do not fit", got=f"{x.type}, {w.type}")
    biases = [f[2] for f in found if f[2] is not None]
    b = node.weight("bias", np.stack(biases)) if biases else None
    per = len(op.states)
    first: list[Value | None] = [None] * per
    if states:
        if len(states) != per * len(halves):
            raise node.malformed("it is called with another number of states", got=len(states), expected=per * len(halves))
        rows = [node.reshape(s, (1, *s.shape)) for s in states]
        first = [node.step(Concat(0), *rows[k::per]) if len(halves) > 1 else rows[k] for k in range(per)]
    return node.steps(op, node.turned(x, (1, 0, 2)), w, r, b, None, *first)


def _states(node: LayerContext) -> list[Value]:
    """The states that a layer is called with."""
    given = node.extra.get("initial_state")
    extra = [v for v in given if isinstance(v, Value)] if isinstance(given, list) else [given] if isinstance(given, Value) else []
    if node.extra.get("mask") is not None:
        raise node.unsupported("masks are not supported")
    return [node.floats(k) for k in range(1, len(node))] + extra


@keras_layer("SimpleRNN", "GRU", "LSTM")
def recurrent(node: LayerContext) -> list[Value]:
    layer = _Layer(node, node.op, node.config)
    results = _run(node, layer, layer.op("reverse" if layer.backwards else "forward"), [node.weights.arrays()], _states(node))
    y, batch = results[0], results[0].shape[2]
    last = [node.reshape(state, (batch, layer.units)) for state in results[1:]]
    found = last[0]
    if layer.sequences:
        found = node.turned(node.reshape(y, (y.shape[0], batch, layer.units)), (1, 0, 2))
        found = slices.flipped(node, found, [1]) if layer.backwards else found
    return [found, *last] if layer.state else [found]


@keras_layer("Bidirectional")
def bidirectional(node: LayerContext) -> list[Value]:
    """A layer and its copy that walks backwards; their results are joined."""
    inner = node.option("layer")
    kind = inner.get("class_name")
    if kind not in _KINDS:
        raise node.unsupported("layers of this class are not supported both ways", got=kind, expected=", ".join(_KINDS))
    layer = _Layer(node, kind, inner["config"])
    other = node.option("backward_layer", None)
    copy = layer if other is None else _Layer(node, other["class_name"], other["config"])
    if layer.backwards or (copy.kind, copy.units, copy.activations, copy.biased, copy.after) != (kind, layer.units, layer.activations, layer.biased, layer.after):
        raise node.unsupported("two directions of different layers are not supported")
    arrays = node.weights.arrays()
    half = len(arrays) // 2
    results = _run(node, layer, layer.op("bidirectional"), [arrays[:half], arrays[half:]], _states(node))
    batch, units = results[0].shape[2], layer.units

    def parts(value: Value) -> list[Value]:
        """Both directions of [D, ..]."""
        return slices.unstacked(node, value, 0, 2)

    if layer.sequences:
        turned = node.turned(results[0], (2, 0, 1, 3))  # [B, T, D, H]
        sides = parts(node.turned(results[0], (1, 2, 0, 3)))
        joined = node.reshape(turned, (batch, results[0].shape[0], 2 * units))
    else:
        sides = parts(results[1])
        joined = node.step(Concat(1), *sides)
    states = [p for pair in zip(*(parts(r) for r in results[1:]), strict=True) for p in pair] if layer.state else []
    mode = node.option("merge_mode", "concat")
    if mode == "concat":
        return [joined, *states]
    if mode is None:
        return [*sides, *states]
    fn = {"sum": "add", "ave": "add", "mul": "mul"}.get(mode)
    if fn is None:
        raise node.malformed("merge_mode is not known", got=repr(mode)[:80])
    total = node.apply(fn, *sides)
    return [node.apply("mul", total, node.like(0.5, total)) if mode == "ave" else total, *states]


@keras_layer("TimeDistributed")
def time_distributed(node: LayerContext) -> Value:
    """A layer at every step: steps become samples."""
    inner = node.option("layer")
    kind, config, x = inner.get("class_name"), inner.get("config"), node.stored(0)
    rule = RULES.get(kind)
    if rule is None or kind in ("TimeDistributed", "Bidirectional", *_KINDS) or not isinstance(config, dict):
        raise node.unsupported("layers of this class are not supported at every step", got=kind)
    if x.type.rank < 3:
        raise node.malformed("its operand has no steps", got=x.type)
    rows = node.reshape(x, (sh.mul(x.shape[0], x.shape[1]), *x.shape[2:]))
    made = LayerContext(node.graph, node.reserved, node.name, kind, config, [rows], {}, node.weights.inner(), node.major, node.consts)
    found = rule(made)
    if not isinstance(found, Value):
        (found,) = found
    return node.reshape(found, (x.shape[0], x.shape[1], *found.shape[1:]))


# ---- attention


@keras_layer("MultiHeadAttention")
def multi_head_attention(node: LayerContext) -> Value:
    """Called with query, value and, if it differs, key [batch, steps, features]; kernels [features, heads, size]."""
    for name in ("attention_mask", "query_mask", "value_mask", "key_mask"):
        if node.extra.get(name) is not None:
            raise node.unsupported("masks are not supported", got=name)
    if node.extra.get("return_attention_scores"):
        raise node.unsupported("returning the scores is not supported")
    axes = node.option("attention_axes", None)
    inputs = [node.floats(k) for k in range(len(node))]
    inputs += [v for name in ("query", "value", "key") if isinstance(v := node.extra.get(name), Value)]
    if not 2 <= len(inputs) <= 3 or any(v.type.rank != 3 for v in inputs) or axes not in (None, [1], 1):
        raise node.unsupported("operands of other ranks, or attention over other axes, are not supported", got=[str(v.type) for v in inputs], expected="[batch, steps, features]")
    query, value = inputs[:2]
    key = inputs[2] if len(inputs) > 2 else value
    biased = node.flag("use_bias", True)
    names = [f"{part} {what}" for part in ("query", "key", "value", "output") for what in (("kernel", "bias") if biased else ("kernel",))]
    held = dict(zip(names, node.saved(*names), strict=True))
    heads = node.whole("num_heads")
    q, k, v = (_heads(node, x, part, held, heads) for x, part in ((query, "query"), (key, "key"), (value, "value")))
    size = node.whole("key_dim")
    found = node.step(Attention(1 / math.sqrt(size), bool(node.extra.get("use_causal_mask", False))), q, k, v)
    rows = node.turned(found, (0, 2, 1, 3))
    rows = node.reshape(rows, (*rows.shape[:2], sh.mul(rows.shape[2], rows.shape[3])))
    kernel = held["output kernel"]
    if kernel.ndim != 3:
        raise node.malformed("the weights have another rank", got=list(kernel.shape), expected=3)
    result = product(node, rows, node.weight("output kernel", kernel.reshape(-1, kernel.shape[-1])))
    return node.apply("add", result, node.weight("output bias", held["output bias"])) if biased else result


def _heads(node: LayerContext, x: Value, part: str, held: dict[str, Array], heads: int) -> Value:
    """x [B, T, F] through kernel [F, N, H] as [B, N, T, H]."""
    kernel = held[f"{part} kernel"]
    if kernel.ndim != 3 or kernel.shape[0] != x.shape[2] or kernel.shape[1] != heads:
        raise node.malformed("the weights do not fit", got=f"{x.type}, {list(kernel.shape)}")
    found = product(node, x, node.weight(f"{part} kernel", kernel.reshape(kernel.shape[0], -1)))
    if f"{part} bias" in held:
        found = node.apply("add", found, node.weight(f"{part} bias", held[f"{part} bias"].reshape(-1)))
    return node.turned(node.reshape(found, (*found.shape[:2], heads, kernel.shape[2])), (0, 2, 1, 3))


@keras_layer("Attention")
def attention(node: LayerContext) -> Value:
    """Called with query, value and, if it differs, key; scores are plain products."""
    if node.flag("use_scale") or node.word("score_mode", "dot") != "dot" or node.extra.get("mask") is not None or node.extra.get("return_attention_scores"):
        raise node.unsupported("scaled scores, other scores, masks, and returning the scores are not supported")
    query, value = node.floats(0), node.floats(1)
    key = node.floats(2) if len(node) > 2 else value
    return node.step(Attention(1.0, bool(node.extra.get("use_causal_mask", False))), query, key, value)
