"""A slice moves up past work on rows that nothing else reads, so that only the wanted rows are computed.

Before:
    y = slice(layer_norm(add(h, matmul(gelu(matmul(layer_norm(h), w1)), w2))), one row)
    as a classifier reads the first token of a vision transformer.
After:
    r = slice(h, one row)
    y = layer_norm(add(r, matmul(gelu(matmul(layer_norm(r), w1)), w2)))
Unless:
    one of the values is read by something that needs all its rows, rows depend on one another, or no
    product would get smaller.
"""

from __future__ import annotations

from strop.ir import shape as sh
from strop.ir.graph import Graph, Node, Value
from strop.ir.match import Match, New, Patch, any_value, op, rewrite, rule
from strop.ops.attention import Attention
from strop.ops.data import Reshape, Slice, Transpose
from strop.ops.elementwise import Cast, Elementwise
from strop.ops.matmul import MatMul
from strop.ops.norm import LayerNorm, RMSNorm
from strop.ops.softmax import LogSoftmax, Softmax
from strop.optimize.base import Options
from strop.trace import Trace

NAME = "hoist_slices"

#: Per operand of a node the axis along which it is sliced, or None where it is taken whole.
_Axes = tuple[int | None, ...]


def _operand_axes(node: Node, axis: int) -> _Axes | None:
    """How the operands are sliced when the only result is, along ``axis``; None when its rows are not independent."""
    if len(node.outputs) != 1:
        return None
    rank, size = len(node.output.shape), node.output.shape[axis]
    later = (None,) * (len(node.inputs) - 1)
    match node.op:
        case Elementwise() | Cast():
            return tuple(None if v is None else _aligned(v, rank, axis, size) for v in node.inputs)
        case LayerNorm() | RMSNorm():
            return (axis, *later) if axis < node.op.axis % rank else None
        case Softmax() | LogSoftmax():
            return (axis,) if axis != node.op.axis % rank else None
        case MatMul():
            a, b = node.operand(0), node.operand(1)
            rows = axis < rank - 1 and len(a.shape) == rank and len(b.shape) == 2 and not node.op.transpose_a
            return (axis, None) if rows else None
        case Attention():
            return (axis, *later) if axis == rank - 2 and len(node.inputs) == 3 and not node.op.causal else None
        case Transpose():
            return (node.op.perm[axis],)
        case Reshape():
            found = _same_axis(node.output, axis, node.operand(0))
            return None if found is None else (found, *later)
    return None


def _aligned(value: Value, rank: int, axis: int, size: sh.Dim) -> int | None:
    """The axis of an operand that broadcasting lines up with ``axis`` of the result; None where it repeats."""
    own = axis - (rank - len(value.shape))
    return own if own >= 0 and value.shape[own] == size and size != 1 else None


def _same_axis(result: Value, axis: int, operand: Value) -> int | None:
    """The axis of a reshape's operand that is the result's axis: as long, with as many elements before it."""
    before = sh.volume(result.shape[:axis])
    for k, size in enumerate(operand.shape):
        if size == result.shape[axis] and sh.volume(operand.shape[:k]) == before:
            return k
    return None


class _Climb:
    """What a slice along one axis can move past."""

    def __init__(self, graph: Graph, root: Node) -> None:
        assert isinstance(root.op, Slice)
        self.graph, self.root, self.slice = graph, root, root.op
        #: Nodes to be made for the wanted rows alone, in order, with the axis of their result.
        self.nodes: dict[Node, int] = {}
        top = root.operand(0)
        self._collect(top, self.slice.axes[0])
        while self._drop_shared(top):
            pass
        self._drop_unreached(top)

    def _collect(self, value: Value, axis: int) -> None:
        stack = [(value, axis)]
        while stack:
            value, axis = stack.pop()
            node = value.producer
            if node is None or value.shape[axis] == 1 or self.graph.is_output(value) or node in self.nodes:
                continue
            axes = _operand_axes(node, axis)
            if axes is None:
                continue
            self.nodes[node] = axis
            stack += [(v, a) for v, a in zip(node.inputs, axes) if v is not None and a is not None]

    def _drop_shared(self, top: Value) -> bool:
        """Takes off nodes whose result something else reads, or that two readers want along different axes."""
        for node in list(self.nodes):
            if node.output is top and all(self._is_same(user) for user in top.users):
                continue
            wanted = [
                axes[k] if user in self.nodes and (axes := _operand_axes(user, self.nodes[user])) is not None else None
                for user in node.output.users
                for k, v in enumerate(user.inputs)
                if v is node.output
            ]
            same = node.output is top and any(self._is_same(user) for user in node.output.users)
            if same or not wanted or any(axis != self.nodes[node] for axis in wanted):
                del self.nodes[node]
                return True
        return False

    def _drop_unreached(self, top: Value) -> None:
        """Takes off nodes that are no longer above the slice through others."""
        reached: set[Node] = set()
        stack = [top]
        while stack:
            node = stack.pop().producer
            if node is not None and node in self.nodes and node not in reached:
                reached.add(node)
                stack += node.operands
        self.nodes = {node: axis for node, axis in self.nodes.items() if node in reached}

    def _is_same(self, user: Node) -> bool:
        return isinstance(user.op, Slice) and user.op == self.slice

    @property
    def pays(self) -> bool:
        """True when a product gets smaller."""
        return any(isinstance(node.op, (MatMul, Attention)) for node in self.nodes)

    def patch(self) -> Patch:
        """The nodes again, over slices of what they read."""
        patch = Patch(self.graph)
        made: dict[Value, New] = {}
        cut: dict[tuple[Value, int], New] = {}

        def rows(value: Value, axis: int) -> New:
            if value in made:
                return made[value]
            if (value, axis) not in cut:
                cut[value, axis] = patch.add(self.slice.replace(axes=(axis,)), value, source=self.root.source)
            return cut[value, axis]

        order = {node: k for k, node in enumerate(self.graph.nodes)}
        for node in sorted(self.nodes, key=order.__getitem__):
            axes = _operand_axes(node, self.nodes[node])
            assert axes is not None
            operands = [v if v is None or a is None else rows(v, a) for v, a in zip(node.inputs, axes, strict=True)]
            op = node.op
            if isinstance(op, Reshape):
                source, axis = axes[0], self.nodes[node]
                first = operands[0]
                assert source is not None and first is not None
                op = Reshape((*node.output.shape[:axis], first.shape[source], *node.output.shape[axis + 1 :]))
            made[node.output] = patch.add(op, *operands, name=node.name, source=node.source)
        top = self.root.operand(0)
        for user in dict.fromkeys(top.users):
            patch.replace(user.output, made[top])
        return patch


@rule(op("slice", any_value("x")))
def slice_of_rows(m: Match) -> Patch | None:
    """The slice stands where the climb ends."""
    assert isinstance(m.root.op, Slice)
    if len(m.root.op.axes) != 1 or m["x"].producer is None:
        return None
    climb = _Climb(m.graph, m.root)
    return climb.patch() if climb.pays and m["x"].producer in climb.nodes else None


def run(graph: Graph, trace: Trace, options: Options) -> None:
    """Runs the pass."""
    rewrite(graph, (slice_of_rows,), trace, NAME)
