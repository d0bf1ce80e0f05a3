"""Chooses the axis order in which to compute so that as few transpositions as possible remain.

Before:
    a = transpose(conv(x, w), 0231); b = layer_norm(a); c = transpose(b, 0312); y = add(c, conv(z, v))
After:
    b = layer_norm(conv(x', w)); y = add(b, conv(z', v))     convolutions channels-last, x' and z' too
    For each permutation that occurs, every op that can work on turned values (``turned``) either is
    turned or not, such that the fewest values are needed in both orders; among equals, the least
    bytes. That is a minimum cut: ops are nodes, a value needed in both orders costs its transposition.
Unless:
    nothing would be saved: the number of transpositions never grows. Those that only move axes of size
    1 become reshapes and cost nothing, or ``Options.view_price``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from strop.ir import shape as sh
from strop.ir.graph import Graph, Node, Value
from strop.ir.match import New, Patch, apply
from strop.ops.data import Reshape, Transpose
from strop.optimize.base import Options
from strop.optimize.mincut import INFINITE, Network
from strop.optimize.turned import Perm, Turned, inverse, is_free, turned
from strop.trace import Trace

NAME = "cancel_transposes"

ONE = 1 << 60  # what a transposition costs beside its elements


class _Orders:
    """Which values are in which of two axis orders: classes of values whose orders hang together."""

    def __init__(self) -> None:
        self.parent: dict[object, tuple[object, int]] = {}

    def find(self, item: object) -> tuple[object, int]:
        """The representative of a class, and whether the item's order differs from its."""
        path: list[tuple[object, int]] = []
        while item in self.parent:
            up, parity = self.parent[item]
            path.append((item, parity))
            item = up
        total = 0
        for below, parity in reversed(path):
            total ^= parity
            self.parent[below] = (item, total)
        return item, total

    def join(self, a: object, b: object, parity: int) -> bool:
        """Says that two items' orders are equal (0) or differ (1); False when that contradicts."""
        (top_a, one), (top_b, two) = self.find(a), self.find(b)
        if top_a == top_b:
            return one ^ two == parity
        self.parent[top_b] = (top_a, one ^ two ^ parity)
        return True


@dataclass(eq=False)
class _Tensor:
    """What is one value but for its order: values linked by the transpositions at stake.

    Attributes:
        source: the value that no link makes.
        members: all the values.
        links: the transpositions between them.
    """

    source: Value
    members: list[Value] = field(default_factory=list)
    links: list[Node] = field(default_factory=list)


class _Plan:
    """The choice for one permutation: a value of order 0 turned by ``perm`` is of order 1."""

    def __init__(self, graph: Graph, perm: Perm, view_price: int = 0) -> None:
        self.graph = graph
        self.view_price = view_price
        self.perms = (perm, inverse(perm))  # by the order of what is turned
        self.orders = _Orders()
        self.links: set[int] = set()
        self.ways: dict[Node, tuple[int, Turned]] = {}  # own order, and how it works in the other
        self.tensors: dict[Value, _Tensor] = {}
        self._find_links()
        self._find_ways()
        self._find_tensors()

    # ---- what is at stake

    def _find_links(self) -> None:
        for node in self.graph.nodes:
            if not isinstance(node.op, Transpose) or node.op.perm not in self.perms:
                continue
            x, y = node.operand(0), node.output
            if self.perms[0] == self.perms[1]:
                fits = self.orders.join(x, y, 1)
            else:
                order = self.perms.index(node.op.perm)
                fits = self.orders.join(None, x, order) and self.orders.join(None, y, 1 - order)
            if fits and x.const is None:
                self.links.add(id(node))

    def _find_ways(self) -> None:
        candidates: list[tuple[Node, Value]] = []
        for node in self.graph.nodes:
            way = None if id(node) in self.links else self._either_way(node)
            if way is not None:
                first, *others = self._aligned(node, way)
                if all(self.orders.join(first, v, 0) for v in others):
                    candidates.append((node, first))
        ends = [n.output for n in self.graph.nodes if id(n) in self.links]
        self.touched = {self.orders.find(v)[0] for v in ends}
        for node, value in candidates:
            order = self._order(value)
            way = None if order is None else turned(node, self.perms[order])
            if way is not None and order is not None:
                self.ways[node] = order, way

    def _either_way(self, node: Node) -> Turned | None:
        return turned(node, self.perms[0]) or turned(node, self.perms[1])

    @staticmethod
    def _aligned(node: Node, way: Turned) -> list[Value]:
        """The values of a node that share one order."""
        return [node.operand(i) for i in way.aligned] + (node.outputs if way.results else [])

    def _order(self, value: Value) -> int | None:
        """The order of a value; None when no transposition at stake has to do with it."""
        top, parity = self.orders.find(value)
        if top not in self.touched:
            return None
        return parity if self.perms[0] == self.perms[1] else parity ^ self.orders.find(None)[1]

    def order(self, value: Value) -> int:
        """The order of a value in a tensor."""
        found = self._order(value)
        assert found is not None
        return found

    def _find_tensors(self) -> None:
        for node in self.graph.nodes:
            if id(node) in self.links:
                tensor = self._tensor(node.operand(0))
                tensor.members.append(node.output)
                tensor.links.append(node)
                self.tensors[node.output] = tensor
            elif node in self.ways:
                for value in self._aligned(node, self.ways[node][1]):
                    self._tensor(value)

    def _tensor(self, value: Value) -> _Tensor:
        if value not in self.tensors:
            self.tensors[value] = _Tensor(value, [value])
        return self.tensors[value]

    # ---- the choice

    def _reads(self, tensor: _Tensor) -> list[tuple[Node | None, int]]:
        """Readers of a tensor but for its links: the node if it may be turned, and its order now."""
        found: list[tuple[Node | None, int]] = []
        for value in tensor.members:
            order = self.order(value)
            if self.graph.is_output(value):
                found.append((None, order))
            for node, index in value.uses:
                free = node in self.ways and index in self.ways[node][1].aligned
                if id(node) not in self.links:
                    found.append((node if free else None, order))
        return found

    def _maker(self, tensor: _Tensor) -> Node | None:
        """The node that makes a tensor, if it may be turned."""
        node = tensor.source.producer
        return node if node in self.ways and self.ways[node][1].results else None

    def _groups(self) -> list[list[_Tensor]]:
        """Tensors that nodes which may be turned hold together."""
        together = _Orders()
        tensors = list(dict.fromkeys(self.tensors.values()))
        for tensor in tensors:
            together.join(tensor, tensor, 0)
            for node in (self._maker(tensor), *(n for n, _ in self._reads(tensor))):
                if node is not None:
                    together.join(node, tensor, 0)
        groups: dict[object, list[_Tensor]] = {}
        for tensor in tensors:
            groups.setdefault(together.find(tensor)[0], []).append(tensor)
        return list(groups.values())

    def _price(self, tensor: _Tensor) -> int:
        """What it costs to have a tensor in both orders."""
        source = tensor.source
        if is_free(source, self.perms[self.order(source)]):
            return self.view_price
        symbols = {s.name: s.opt for s in sh.symbols(source.shape)}
        return ONE + (sh.evaluate(sh.volume(source.shape), symbols) << 20)

    def choose(self) -> dict[Node, int]:
        """New orders of the nodes worth turning; empty when nothing is saved."""
        chosen: dict[Node, int] = {}
        for group in self._groups():
            chosen.update(self._cut(group))
        return chosen

    def _cut(self, group: list[_Tensor]) -> dict[Node, int]:
        network = Network()
        numbers: dict[Node, int] = {}

        def number(node: Node | None, order: int) -> int:
            if node is None:
                return order  # source and sink stand for what is fixed
            if node not in numbers:
                numbers[node] = network.node()
                ends = (0, numbers[node]) if order == 0 else (numbers[node], 1)
                network.edge(*ends, 1)  # among equals, the fewest nodes are turned
            return numbers[node]

        for tensor in group:
            price = self._price(tensor)
            maker = number(self._maker(tensor), self.order(tensor.source))
            readers = [number(node, order) for node, order in self._reads(tensor)]
            if price == 0:
                continue
            ahead, behind = network.node(), network.node()
            network.edge(maker, ahead, price)  # made in order 0, read in order 1
            network.edge(behind, maker, price)  # made in order 1, read in order 0
            for reader in readers:
                network.edge(ahead, reader, INFINITE)
                network.edge(reader, behind, INFINITE)
        zero = network.cut()
        new = {node: 0 if at in zero else 1 for node, at in numbers.items()}
        turned_ones = {n: order for n, order in new.items() if order != self.ways[n][0]}
        saves = self._cost(group, new) < self._cost(group, {n: self.ways[n][0] for n in numbers})
        return turned_ones if saves else {}

    def _cost(self, group: list[_Tensor], orders: dict[Node, int]) -> int:
        total = 0
        for tensor in group:
            maker = self._maker(tensor)
            made = self.order(tensor.source) if maker is None else orders[maker]
            read = {order if node is None else orders[node] for node, order in self._reads(tensor)}
            total += self._price(tensor) if read - {made} else 0
        return total


class _Rebuild:
    """Makes the Patch that carries out a choice."""

    def __init__(self, plan: _Plan, chosen: dict[Node, int]) -> None:
        self.plan = plan
        self.chosen = chosen
        self.patch = Patch(plan.graph)
        self.made: dict[Value, New] = {}  # results of turned nodes, by the value they stand for
        self.present: dict[tuple[_Tensor, int], Value | New] = {}

    def run(self) -> Patch:
        plan = self.plan
        for node in plan.graph.nodes:
            if node in self.chosen:
                self._turn(node, plan.ways[node][1])
        for value, tensor in plan.tensors.items():
            maker = value.producer
            stays = maker is None or (id(maker) not in plan.links and maker not in self.chosen)
            if not stays and self._is_read(value) and self._touches(tensor):
                self.patch.replace(value, self._get(tensor, plan.order(value)))
        for node in self.chosen:
            if not plan.ways[node][1].results:
                for value in node.outputs:
                    self.patch.replace(value, self.made[value])
        return self.patch

    def _touches(self, tensor: _Tensor) -> bool:
        """Whether anything about a tensor changes."""
        nodes = [tensor.source.producer, *(n for v in tensor.members for n in v.users)]
        return any(node in self.chosen for node in nodes if node is not None)

    def _is_read(self, value: Value) -> bool:
        """Whether something reads a value that stays as it is."""
        links = self.plan.links
        stays = any(id(n) not in links and n not in self.chosen for n in value.users)
        return stays or self.plan.graph.is_output(value)

    def _turn(self, node: Node, way: Turned) -> None:
        operands: list[Value | New | None] = []
        for index, value in enumerate(node.inputs):
            if value is None:
                operands.append(None)
            elif index in way.constants:
                operands.append(self.patch.const(way.constants[index], value.name))
            elif index in way.aligned:
                operands.append(self._get(self.plan.tensors[value], self.chosen[node]))
            elif value in self.plan.tensors:
                operands.append(self._get(self.plan.tensors[value], self.plan.order(value)))
            else:
                operands.append(self.made.get(value, value))
        results = self.patch.add_several(way.op, *operands, name=node.name, source=node.source)
        self.made.update(zip(node.outputs, results, strict=True))

    def _get(self, tensor: _Tensor, order: int) -> Value | New:
        """A tensor in an order; adds the transposition when it was made in the other."""
        source, key = tensor.source, (tensor, order)
        if key not in self.present:
            maker = self.plan._maker(tensor)
            own = self.plan.order(source)
            made_in = self.chosen.get(maker, own) if maker is not None else own
            self.present.setdefault((tensor, made_in), self.made.get(source, source))
            if order != made_in:
                self.present[key] = self._transpose(tensor, made_in)
        return self.present[key]

    def _transpose(self, tensor: _Tensor, made_in: int) -> New:
        value = self.present[tensor, made_in]
        perm = self.plan.perms[made_in]
        sources = [s for link in tensor.links for s in link.source]
        maker = tensor.source.producer
        if not tensor.links and maker is not None:
            sources = list(maker.source)
        name = tensor.links[0].name if tensor.links else f"{tensor.source.name}.turned"
        shape = tuple(value.shape[p] for p in perm)
        free = [p for p in perm if value.shape[p] != 1]
        op = Reshape(shape) if free == sorted(free) else Transpose(perm)
        return self.patch.add(op, value, name=name, source=tuple(dict.fromkeys(sources)))


def run(graph: Graph, trace: Trace, options: Options) -> None:
    """Runs the pass."""
    perms = {n.op.perm for n in graph.nodes if isinstance(n.op, Transpose)}
    for perm in sorted({min(p, inverse(p)) for p in perms}):
        plan = _Plan(graph, perm, options.view_price)
        chosen = plan.choose()
        patch = _Rebuild(plan, chosen).run()
        if not patch.replaced:  # nothing to turn, or nothing that is read
            continue
        if not trace.may_patch():
            return
        apply(graph, patch, trace, NAME, "turn")
