"""Walks an exported program and builds a Graph: inputs, weights, nodes in order, outputs, and a verdict for every node."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, TensorArgument

from strop.errors import ModelError, ShapeError, StropError, UnsupportedError, VerifyError
from strop.frontend.names import free_name
from strop.frontend.torch.context import NodeContext
from strop.frontend.torch.registry import RULES, refusal
from strop.frontend.torch.symbols import Symbols, apply_shapes
from strop.frontend.verdicts import Verdict, reason
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.graph import Graph, Value
from strop.ir.op import Array, Type

DTYPES: dict[torch.dtype, DType] = {
    torch.float32: dt.f32,
    torch.float64: dt.f64,
    torch.float16: dt.f16,
    torch.bfloat16: dt.bf16,
    torch.int8: dt.i8,
    torch.int16: dt.i16,
    torch.int32: dt.i32,
    torch.int64: dt.i64,
    torch.uint8: dt.u8,
    torch.uint16: dt.u16,
    torch.uint32: dt.u32,
    torch.uint64: dt.u64,
    torch.bool: dt.boolean,
}
#: Calls that only state or fetch what is known already.
_IGNORED = re.compile(r"aten\.(_assert|sym_constrain_range|_assert_async|_assert_tensor_metadata)|profiler\.")
#: What an import function may run into on a node that PyTorch would not make; anything else is a defect.
_BAD_NODE = (ArithmeticError, IndexError, KeyError, TypeError, ValueError)
_EVAL = "call module.eval() before the export"


class Unknown:
    """The result of a node that could not be read."""


class Importer:
    """One import. ``run`` fills ``verdicts`` and ``errors``; the graph is whole when there are no errors.

    Args:
        program: decomposed as ``strop.frontend.torch.program`` does.
        shapes: of inputs by name, or ranges of dims by their names.
        name: of the graph.
        labels: per input and axis the name and smallest value that the caller gave.
    """

    def __init__(self, program: ExportedProgram, shapes: Mapping[str, Any] | None, name: str, labels: Sequence[Mapping[int, tuple[str, int]]] = ()) -> None:
        self.program = program
        self.graph = Graph(name)
        self.verdicts: list[Verdict] = []
        self.errors: list[StropError] = []
        self._shapes = dict(shapes or {})
        self._labels = list(labels)
        self._nodes = list(program.graph_module.graph.nodes)
        self._reserved = {node.name for node in self._nodes}
        self._specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs if hasattr(spec.arg, "name")}
        self._env: dict[Any, Any] = {}
        self._names: set[str] = set()

    def run(self) -> None:
        """Imports the program.

        Raises:
            UnsupportedError: it changes buffers or inputs, or takes or gives something that is no tensor.
            OptionError: ``shapes`` does not fit it.
        """
        self._check_mutations()
        self._symbols = self._make_symbols()
        for node in self._nodes:
            if node.op == "placeholder":
                self._placeholder(node)
            elif node.op == "get_attr":
                self._env[node] = self._constant(getattr(self.program.graph_module, node.target), str(node.target))
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                self._outputs(node)

    # ---- inputs, weights, outputs

    def _check_mutations(self) -> None:
        signature = self.program.graph_signature
        for target in signature.buffers_to_mutate.values():
            norm = "running_" in target or "num_batches" in target
            raise UnsupportedError(
                "the network changes a buffer while it runs", where=f"buffer {target}",
                hint=_EVAL if norm else "pass the state in as an input and give it back as an output",
            )  # fmt: skip
        for name in signature.user_inputs_to_mutate.values():
            raise UnsupportedError(
                "the network changes an input in place", where=f"input {name}", hint="work on a copy of it: x = x.clone()"
            )

    def _make_symbols(self) -> Symbols:
        inputs = {n.name: n for n in self._nodes if n.op == "placeholder" and self._kind(n) is InputKind.USER_INPUT}
        sizes: dict[str, list[Any]] = {}
        hints: dict[str, int] = {}
        labels: dict[str, tuple[str, int]] = {}
        seen: list[tuple[str, str]] = []
        given_labels = self._labels if len(self._labels) == len(inputs) else [{}] * len(inputs)
        for (name, node), own in zip(inputs.items(), given_labels, strict=True):
            value = node.meta.get("val")
            if not isinstance(value, torch.Tensor):
                continue
            sizes[name] = [_size(s) for s in value.shape]
            for axis, (size, given) in enumerate(zip(sizes[name], value.shape, strict=True)):
                for symbol in sorted(getattr(size, "free_symbols", ()), key=str):
                    seen.append((symbol.name, f"{name}_{axis}"))
                    if axis in own:
                        labels.setdefault(symbol.name, own[axis])
                    factor = size.coeff(symbol)
                    hint = getattr(given.node, "hint", None)
                    if hint is not None and size == factor * symbol:
                        hints[symbol.name] = int(hint) // int(factor)
        ranges = {str(s): _range(r) for s, r in self.program.range_constraints.items()}
        symbols = Symbols(ranges, hints, labels)
        for symbol, wanted in seen:
            symbols.name(symbol, wanted)
        apply_shapes(symbols, sizes, self._shapes)
        return symbols

    def _kind(self, node: Any) -> Any:
        spec = self._specs.get(node.name)
        return spec.kind if spec is not None else InputKind.USER_INPUT

    def _placeholder(self, node: Any) -> None:
        spec, value = self._specs.get(node.name), node.meta.get("val")
        kind = self._kind(node)
        if kind is InputKind.USER_INPUT:
            if not isinstance(value, torch.Tensor):
                if node.users:
                    raise UnsupportedError(
                        "an input is no tensor", where=f"input {node.name}", got=type(value).__name__,
                        hint="make it a tensor, or a constant of the module",
                    )  # fmt: skip
                return
            self._env[node] = self.graph.add_input(node.name, self._type(value, f"input {node.name}"))
            return
        if kind not in (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR):
            raise UnsupportedError("an input of this kind is not supported", where=f"input {node.name}", got=str(kind).split(".")[-1])
        target = str(spec.target) if spec is not None else node.name
        state = self.program.state_dict
        tensor = state[target] if target in state else self.program.constants[target]
        if node.users:
            self._env[node] = self._constant(tensor, target)

    def _constant(self, tensor: Any, target: str) -> Any:
        if not isinstance(tensor, torch.Tensor):
            return tensor
        name, number = target, 0
        while name in self._reserved or name in self.graph.values:
            number += 1
            name = f"{target}:{number}"
        return self.graph.add_const(array_of(tensor, f"weight {target}"), name)

    def _outputs(self, node: Any) -> None:
        values: list[Value] = []
        names: list[str] = []
        for spec, found in zip(self.program.graph_signature.output_specs, node.args[0], strict=True):
            if not isinstance(spec.arg, TensorArgument):
                if found is None:
                    continue
                error = UnsupportedError(
                    "an output is no tensor", where=f"output {getattr(spec.arg, 'name', '')}".strip(), got=str(found),
                    hint="leave it out of what the module returns",
                )  # fmt: skip
                self.errors.append(error)
                self.verdicts.append(Verdict(error.where or "output", "output", 0, False, True, reason(error), error.hint))
                continue
            value = self._env[found]
            if isinstance(value, Value):
                name, number = spec.arg.name, 0
                while (name if number == 0 else f"{name}.{number}") in names:
                    number += 1
                names.append(name if number == 0 else f"{name}.{number}")
                values.append(value)
        if not values and not self.errors:
            raise ModelError("the program has no outputs", where=f"graph {self.graph.name}")
        self.graph.set_outputs(values, names)

    # ---- types

    def _type(self, value: torch.Tensor, where: str) -> Type:
        if value.dtype not in DTYPES:
            raise UnsupportedError(
                f"element type {str(value.dtype).removeprefix('torch.')} is not supported", where=where,
                expected=", ".join(d.name for d in dt.ALL),
            )  # fmt: skip
        if value.layout is not torch.strided:
            raise UnsupportedError("only dense tensors are supported", where=where, got=str(value.layout))
        return Type(DTYPES[value.dtype], tuple(self._symbols.dim(_size(s)) for s in value.shape))

    def _out(self, value: Any, where: str) -> tuple[Type | None, ...]:
        if isinstance(value, torch.Tensor):
            return (self._type(value, where),)
        if isinstance(value, (list, tuple)):
            return tuple(self._type(v, where) if isinstance(v, torch.Tensor) else None for v in value)
        return ()

    # ---- nodes

    def _call(self, node: Any) -> None:
        if node.target is operator.getitem and isinstance(node.args[0], torch.fx.Node):
            source = self._env.get(node.args[0])
            if isinstance(source, (list, tuple)):
                self._env[node] = self._named(source[node.args[1]], node.name)
            else:
                self._env[node] = source if source is not None else Unknown()
            return
        value = node.meta.get("val")
        if isinstance(value, (int, float, bool, torch.SymInt, torch.SymFloat, torch.SymBool)):
            self._env[node] = node  # its dim is read where it is used
            return
        op = str(node.target)
        if _IGNORED.match(op):
            return
        name, line = self._name(node), _line(node)
        where = f"node {name} ({op})" + f" at {line}" * bool(line)
        try:
            self._env[node] = self._import(node, name, op, line, where)
        except StropError as error:
            self._failed(node, name, op, where, error)

    def _import(self, node: Any, name: str, op: str, line: str, where: str) -> Any:
        out = self._out(node.meta.get("val"), where)
        rule = RULES.get(op)
        if rule is None:
            why, hint = refusal(op)
            raise UnsupportedError(why, where=where, got=op, hint=hint)
        operands = [self._env.get(n) for n in node.all_input_nodes]
        if any(isinstance(o, Unknown) for o in operands):
            self.verdicts.append(Verdict(name, op, 0, True, checked=False))
            return Unknown()
        read = {u.args[1] for u in node.users if u.target is operator.getitem}
        wanted = tuple(len(out) == 1 or k in read for k in range(max(len(out), 1)))
        context = NodeContext(self.graph, self._reserved, name, op, line, self._arguments(node, where), out, wanted)
        try:
            results = rule(context)
        except _BAD_NODE as error:
            raise ModelError(f"{op} cannot be read: {type(error).__name__}: {error}", where=where) from error
        given = list(results) if isinstance(results, Sequence) else [results]
        self._check(given, out, wanted, where)
        self.verdicts.append(Verdict(name, op, 0, True))
        if isinstance(node.meta.get("val"), (list, tuple)):
            return given
        return self._named(given[0], node.name)

    def _check(self, given: Sequence[Value | None], out: Sequence[Type | None], wanted: Sequence[bool], where: str) -> None:
        """Results are what PyTorch says; otherwise the import function is wrong."""
        for index, expected in enumerate(out):
            if not wanted[index] or expected is None:
                continue
            value = given[index] if index < len(given) else None
            if value is None:
                raise UnsupportedError(f"result {index} is not supported", where=where, got=f"{expected}, which is read")
            static = [(a, b) for a, b in zip(value.shape, expected.shape, strict=False) if isinstance(a, int) and isinstance(b, int)]
            if value.dtype != expected.dtype or value.type.rank != expected.rank or any(a != b for a, b in static):
                raise VerifyError("an ATen op was imported with another type than PyTorch gives it", where=where, got=value.type, expected=expected)

    def _named(self, value: Any, name: str) -> Any:
        """A result under the name that the program has for it, if it was made for it."""
        if isinstance(value, Value) and value.producer is not None and value.name not in self._reserved and name not in self.graph.values:
            self.graph.rename(value, name)
        return value

    def _failed(self, node: Any, name: str, op: str, where: str, error: StropError) -> None:
        if isinstance(error, VerifyError):
            raise error
        if error.where is None or where not in error.where:
            place = where if error.where is None else f"{where}, {error.where}"
            error = type(error)(error.what, where=place, got=error.got, expected=error.expected, hint=error.hint)
        self.errors.append(error)
        self.verdicts.append(Verdict(name, op, 0, False, True, reason(error), error.hint))
        self._env[node] = self._stand_in(node)

    def _stand_in(self, node: Any) -> Any:
        """Inputs of the types that a failed node gives, so that its readers are checked too."""
        try:
            types = self._out(node.meta.get("val"), node.name)
        except (ShapeError, UnsupportedError):
            return Unknown()
        if not types or any(t is None or not sh.is_static(t.shape) for t in types):
            return Unknown()
        made = [self.graph.add_input(f"{node.name}:{k}", t) for k, t in enumerate(types) if t is not None]
        return made if isinstance(node.meta.get("val"), (list, tuple)) else made[0]

    # ---- arguments

    def _arguments(self, node: Any, where: str) -> dict[str, Any]:
        """Arguments by their names in the op's schema."""
        found: dict[str, Any] = {}
        for index, argument in enumerate(node.target._schema.arguments):
            if index < len(node.args):
                given = node.args[index]
            elif argument.name in node.kwargs:
                given = node.kwargs[argument.name]
            else:
                given = argument.default_value if argument.has_default_value() else None
            found[argument.name] = self._argument(given, where)
        return found

    def _argument(self, given: Any, where: str) -> Any:
        if isinstance(given, torch.fx.Node):
            value = given.meta.get("val")
            if isinstance(value, torch.SymInt):
                return self._symbols.dim(_size(value))
            if isinstance(value, (bool, int, float)):
                return value
            if isinstance(value, (torch.SymFloat, torch.SymBool)):
                raise UnsupportedError("a number that depends on a dynamic dim is not supported", where=where, got=str(value),
                                       hint="make the dim static when the module is exported")  # fmt: skip
            return self._env.get(given)
        if isinstance(given, (list, tuple)):
            return [self._argument(g, where) for g in given]
        if isinstance(given, torch.dtype):
            if given not in DTYPES:
                raise UnsupportedError(f"element type {str(given).removeprefix('torch.')} is not supported", where=where)
            return DTYPES[given]
        if isinstance(given, (torch.device, torch.layout, torch.memory_format)):
            return None
        return given

    # ---- names

    def _name(self, node: Any) -> str:
        """The path of the module that a node belongs to, then its own name; unique."""
        path = ""
        for entry, _ in (node.meta.get("nn_module_stack") or {}).values():
            path = re.sub(r"^L\['self'\]\.?", "", str(entry)).replace("@", "#") or path
        wanted = f"{path}/{node.name}" if path else node.name
        name = free_name(wanted, self._names, mark=".", first=2)
        self._names.add(name)
        return name


def array_of(tensor: torch.Tensor, where: str) -> Array:
    """The elements of a tensor without a copy, where it lies in order in the processor's memory.

    Raises:
        UnsupportedError: a sparse, quantized or meta tensor, or an element type that is not supported.
    """
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta or tensor.dtype not in DTYPES:
        raise UnsupportedError(
            "weights of this kind are not supported", where=where, got=f"{tensor.layout}, {tensor.dtype}, on {tensor.device}",
            expected="dense tensors of " + ", ".join(d.name for d in dt.ALL),
        )  # fmt: skip
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    if plain.dtype is torch.bfloat16:
        array: Array = plain.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return array
    dense: Array = plain.numpy()
    return dense


def _size(size: Any) -> Any:
    """An int, or the sympy expression of a SymInt."""
    if not isinstance(size, torch.SymInt):
        return int(size)
    expression = size.node.expr
    return int(expression) if expression.is_Integer else expression


def _range(limits: Any) -> tuple[int, int | None]:
    low, high = limits.lower, limits.upper
    return (int(low) if low.is_Integer else 0, int(high) if high.is_Integer and int(high) < 1 << 31 else None)


def _line(node: Any) -> str:
    """File and line of the innermost frame in the user's source."""
    frames = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    own = [f for f in frames if f"{os.sep}torch{os.sep}" not in f[0]] or frames
    return f"{own[-1][0]}:{own[-1][1]}" if own else ""
