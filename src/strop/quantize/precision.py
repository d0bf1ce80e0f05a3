"""Which precision each layer of a graph computes in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from strop.errors import OptionError
from strop.ir import dtype as dt
from strop.ir.graph import Graph, Node
from strop.ops.conv import Conv, ConvTranspose
from strop.ops.matmul import MatMul
from strop.ops.mixed import MixedConv

#: Of a whole build; ``auto`` chooses for each layer by accuracy and time.
PRECISIONS = ("fp32", "bf16", "fp16", "fp16x2", "fp8", "int8", "int8x7", "w8", "w4", "int16x8", "auto")
#: Of one layer.
LAYER_PRECISIONS = PRECISIONS[:-2]
#: In which activations are integers, or floats of 8 bits, with a scale from calibration, and of which type.
INTEGERS = {"int8": dt.u8, "int8x7": dt.u8, "int16x8": dt.i16, "fp8": dt.f8e4m3}
#: Largest magnitude of integer weights where it is less than that of their type: two products with 255 fit i16 (``conv_int8_small``).
SMALL_WEIGHTS = {"int8x7": 64}
#: Input channels of a group below which fp8 serves only layers that are named.
_FEW = 8
#: What a network of a precision computes in where that does not serve.
_REST = {"fp8": "fp16"}
#: Of weights alone: bits, and weights of a column that share a scale where ``w4:64`` does not say so; 0: all of them.
WEIGHTS = {"w8": (8, 0), "w4": (4, 32)}
#: Patterns that stand for places in the network.
FIRST, LAST = "@first", "@last"


@dataclass(frozen=True)
class Decisions:
    """The precision of every node that computes in another one than fp32 could.

    Attributes:
        default: of layers that ``nodes`` does not name. What is no layer is of fp16 in a network of fp8.
        nodes: by node name.
        why: a reason by node name, where there is one to tell.
    """

    default: str
    nodes: Mapping[str, str] = field(default_factory=dict)
    why: Mapping[str, str] = field(default_factory=dict)

    def of(self, node: Node) -> str:
        """The precision of a node: that of the rest of the network for one that int8 or fp8 does not serve."""
        asked = self.nodes.get(node.name, self.default)
        if asked in INTEGERS:
            serves = is_layer(node) if asked != "fp8" else is_matrix_product(node) and (self.named(node) or not has_few_channels(node))
            return asked if serves else _REST.get(asked, "fp32")
        return "fp32" if weight_bits(asked) is not None and not has_weights(node) else asked

    def named(self, node: Node) -> bool:
        """True when the node's precision was asked for by name."""
        return node.name in self.nodes

    def lifted(self, names: Mapping[str, str], to: str = "fp32") -> Decisions:
        """With some nodes in another precision; ``names`` says of each why."""
        return Decisions(self.default, {**self.nodes, **dict.fromkeys(names, to)}, {**self.why, **names})


def is_layer(node: Node) -> bool:
    """True for what int8 kernels compute: f32 convolutions and products whose weights are known."""
    op = node.op
    if not isinstance(op, (Conv, ConvTranspose, MatMul)) or not node.has(1):
        return False
    weight = node.operand(1)
    if weight.const is None or weight.dtype is not dt.f32 or weight.const.size == 0 or node.operand(0).const is not None:
        return False
    if isinstance(op, MatMul):
        return weight.const.ndim == 2 and not op.transpose_a
    return not isinstance(op, ConvTranspose) or op.groups == 1


def is_matrix_product(node: Node) -> bool:
    """True for a layer that kernels compute as a product of matrices: no transposed convolution, and none with a window of its own per channel."""
    op = node.op
    if not is_layer(node) or isinstance(op, ConvTranspose):
        return False
    return not isinstance(op, Conv) or op.groups == 1 or op.groups != node.operand(0).shape[1 if op.layout == "NCHW" else -1]


def has_few_channels(node: Node) -> bool:
    """True for a convolution of few input channels, as of images: in 8-bit floats it loses most and gains least, because its sums are short."""
    return isinstance(node.op, Conv) and int(node.operand(1).type.static_shape[1]) < _FEW


def has_weights(node: Node) -> bool:
    """True for what kernels with stored integer weights compute: products with a known matrix, and convolutions of one tap."""
    if not is_layer(node) or isinstance(node.op, ConvTranspose):
        return False
    if isinstance(node.op, MatMul):
        return node.operand(0).type.rank >= 2
    return MixedConv.of(node.op, node.operand(1).type.static_shape, 8, 0) is not None if isinstance(node.op, Conv) else False


def weight_bits(precision: str) -> tuple[int, int] | None:
    """Bits and group of a precision of weights alone, as ``w4`` or ``w4:64``; None for another one.

    Raises:
        OptionError: the group is no number of weights.
    """
    name, colon, group = precision.partition(":")
    if name not in WEIGHTS:
        return None
    if colon and not (group.isascii() and group.isdigit() and len(group) < 8):
        raise OptionError("unusable group of weights", got=precision, expected=f"{name}:N with N weights that share a scale, 0 for all of a column")
    bits, default = WEIGHTS[name]
    return bits, int(group) if colon else default


def weight_axis(node: Node) -> int:
    """The axis of a layer's weights that counts output channels."""
    op = node.op
    if isinstance(op, MatMul):
        return 0 if op.transpose_b else 1
    return 1 if isinstance(op, ConvTranspose) else 0


def layers(graph: Graph) -> list[Node]:
    """The nodes that may compute in int8, in order."""
    return [node for node in graph.nodes if is_layer(node)]


def layer_name(node: Node) -> str:
    """How a user knows a node: the first of the model's nodes that it stands for."""
    return node.source[0] if node.source else node.name


def decide(graph: Graph, precision: str, patterns: Mapping[str, str] | None = None, start: str = "int8") -> Decisions:
    """The precision of every node by the default and by patterns; of several that match the last one counts.

    Args:
        precision: a row of PRECISIONS, or ``w4:64``.
        patterns: shell-like pattern over layer names (those of the model's nodes) to a row of LAYER_PRECISIONS; ``@first`` and
            ``@last`` are the first and the last layer.
        start: what ``auto`` starts from.

    Raises:
        OptionError: an unknown precision, or a pattern that no node matches.
    """
    if precision not in PRECISIONS and weight_bits(precision) is None:
        raise OptionError("unknown precision", got=precision, expected=", ".join(PRECISIONS))
    found: dict[str, str] = {}
    places = layers(graph)
    ends = {FIRST: places[:1], LAST: places[-1:]}
    default = start if precision == "auto" else precision
    kind = default if default in INTEGERS else None
    for pattern, wanted in (patterns or {}).items():
        if wanted not in LAYER_PRECISIONS and weight_bits(wanted) is None:
            raise OptionError("unknown precision of a layer", where=pattern, got=wanted, expected=", ".join(LAYER_PRECISIONS))
        matched = ends.get(pattern) or [n for n in graph.nodes if any(fnmatchcase(s, pattern) for s in (*n.source, n.name))]
        if not matched:
            known = ", ".join(layer_name(n) for n in places[:8]) + ", ..." * (len(places) > 8)
            raise OptionError("no layer matches a pattern of layer_precision", got=pattern, expected=f"{FIRST}, {LAST}, or one of {known}")
        if wanted in INTEGERS and INTEGERS[kind := kind or wanted] is not INTEGERS[wanted]:
            raise OptionError(f"a network with layers of {kind} has none of {wanted}", where=pattern, got=wanted, expected=f"{kind}, or floats of 16 bits and more")
        found.update((node.name, wanted) for node in matched)
    return Decisions(default, found)
