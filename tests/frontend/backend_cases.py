"""The backend tests that come with onnx: where they are, which are in scope, and what became of each."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, numpy_helper

from strop.errors import StropError, UnsupportedError
from strop.frontend.onnx import read_onnx
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.graph import Graph
from strop.ir.interp import run
from strop.ir.op import Op
from strop.ir.shape import DimExpr, Sym
from strop.optimize.pipeline import optimize
from strop.trace import Trace
from tests.frontend.onnx_models import compare

Array = np.ndarray[Any, Any]
DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"

#: Cases whose expected results contradict the text of the standard, with the reason.
CONTRADICTED = {
    f"test_resize_downsample_scales_{mode}_align_corners": (
        "the test divides by a fractional size; the text, as ONNX Runtime and PyTorch, by the result's size less one"
    )
    for mode in ("linear", "cubic")
}
#: Oldest opset in scope.
MIN_OPSET = 7


@dataclass(frozen=True)
class Case:
    """One backend test.

    Attributes:
        name: onnx's name for it.
        model: the model.
        sets: (inputs, outputs) of every data set, as protobuf messages or arrays.
        rtol, atol: tolerances that onnx sets.
    """

    name: str
    model: ModelProto
    sets: Sequence[tuple[Sequence[Any], Sequence[Any]]]
    rtol: float
    atol: float


@dataclass(frozen=True)
class Problem:
    """One data set of a case, read.

    Attributes:
        graph: the model's graph.
        feeds: arrays by input name.
        expected: arrays in the order of the outputs.
        fixed: inputs of the case that were made constants, because their elements decide over shapes.
    """

    graph: Graph
    feeds: Mapping[str, Array]
    expected: Sequence[Array]
    fixed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a case: ``passed``, ``refused`` or ``wrong``; why not; and the inputs that had to be constants."""

    case: str
    verdict: str
    reason: str = ""
    fixed: tuple[str, ...] = ()


# ---- where the cases are


def node_cases() -> Iterator[Case]:
    """Every node test; onnx makes their data."""
    from onnx.backend.test.loader import load_node_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = load_node_model_tests()
    for case in found:
        yield Case(case.name, case.model, case.data_sets, case.rtol, case.atol)


def file_cases(kind: str) -> Iterator[Case]:
    """The same for a folder of stored tests."""
    for folder in sorted((DATA / kind).iterdir()):
        if not (folder / "model.onnx").is_file():
            continue
        model = onnx.load(folder / "model.onnx")
        sets = []
        for data in sorted(folder.glob("test_data_set_*")):
            inputs = [_load(p) for p in _numbered(data, "input")]
            outputs = [_load(p) for p in _numbered(data, "output")]
            sets.append((inputs, outputs))
        yield Case(folder.name, model, sets, 1e-3, 1e-5)


def _numbered(folder: Path, prefix: str) -> list[Path]:
    return sorted(folder.glob(f"{prefix}_*.pb"), key=lambda p: int(p.stem.rsplit("_", 1)[1]))


def _load(path: Path) -> TensorProto:
    tensor = TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return tensor


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else value


# ---- which are in scope


def out_of_scope(case: Case) -> str | None:
    """Why a case does not count: what engines are not for. None for float, int and bool cases of the default domain's inference."""
    opsets = {o.domain: o.version for o in case.model.opset_import}
    nodes = list(_nodes(case.model.graph))
    if any(n.domain.endswith("training") for n in nodes) or "training" in case.name:
        return "training"
    other = sorted({n.domain for n in nodes if n.domain})
    if other:
        return f"domain {other[0]}"
    if opsets.get("", MIN_OPSET) < MIN_OPSET:
        return f"opsets before {MIN_OPSET}"
    codes = []
    for info in (*case.model.graph.input, *case.model.graph.output):
        if info.type.WhichOneof("value") != "tensor_type":
            return "sequences and optionals as inputs or outputs of the model"
        codes.append(info.type.tensor_type.elem_type)
    codes += [a.t.data_type for n in nodes for a in n.attribute if a.HasField("t")]
    codes += [
        a.i for n in nodes for a in n.attribute if (n.op_type, a.name) in (("Cast", "to"), ("BitCast", "to"))
    ]
    codes += [TensorProto.STRING for n in nodes if any(a.name == "pool_strings" for a in n.attribute)]
    unknown = sorted({TensorProto.DataType.Name(c) for c in codes if c and dt.BY_CODE.get(c) not in dt.ON_PROCESSORS})
    return f"element type {unknown[0]}" if unknown else None


def _nodes(graph: GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


# ---- what becomes of them


def _with_known(model: ModelProto, feeds: Mapping[str, Any], first: int) -> ModelProto:
    """The model with inputs from number ``first`` on made initializers."""
    copy = ModelProto()
    copy.CopyFrom(model)
    for info in list(copy.graph.input)[first:]:
        tensor = numpy_helper.from_array(np.asarray(feeds[info.name]), info.name)
        copy.graph.initializer.append(tensor)
    return copy


def problems(case: Case) -> Iterator[Problem]:
    """Every data set, read. Operands that must be known become constants: all but the first input, or all.

    Raises:
        StropError: the model is refused.
    """
    inputs = [i.name for i in case.model.graph.input]
    for arrays, expected in case.sets:
        feeds = dict(zip(inputs, map(_array, arrays), strict=False))
        wanted = [_array(e) for e in expected]
        graph, fixed = _read(case.model, feeds)
        given = {v.name: np.asarray(feeds[v.name]) for v in graph.inputs}
        yield Problem(graph, given, wanted, fixed)


def _read(model: ModelProto, feeds: Mapping[str, Any]) -> tuple[Graph, tuple[str, ...]]:
    names = [i.name for i in model.graph.input]
    for first in (len(names), 1, 0):
        try:
            return read_onnx(_with_known(model, feeds, first)), tuple(names[first:])
        except UnsupportedError as error:
            if first == 0 or not any(w in str(error) for w in ("must be known", "computed from")):
                raise
    raise AssertionError("not reached")


def check_all(got: Sequence[Array], problem: Problem, rtol: float, atol: float) -> None:
    """Results agree with what onnx expects; a result near zero among large ones may be off by their rounding."""
    assert len(got) == len(problem.expected)
    for result, wanted in zip(got, map(np.asarray, problem.expected), strict=True):
        noise = 0.0
        if wanted.dtype.kind == "f" and wanted.size:
            largest = np.nanmax(np.abs(np.where(np.isfinite(wanted), wanted, 0)))
            noise = float(largest) * 2.0**-24
        compare(result, wanted, rtol, max(atol, noise))


def oracle_outcome(case: Case) -> Outcome:
    """Reads, optimizes and interprets a case."""
    fixed: tuple[str, ...] = ()
    try:
        for problem in problems(case):
            fixed = problem.fixed
            plain = run(problem.graph, problem.feeds)
            check_all(list(plain.values()), problem, case.rtol, case.atol)
            found = run(optimize(problem.graph, Trace()), problem.feeds)
            check_all(list(found.values()), problem, case.rtol, case.atol)
    except StropError as error:
        verdict = "refused" if isinstance(error, UnsupportedError) else "wrong"
        return Outcome(case.name, verdict, _reason(error))
    except AssertionError as error:
        return Outcome(case.name, "wrong", str(error))
    return Outcome(case.name, "passed", fixed=fixed)


def _reason(error: StropError) -> str:
    """What an error says in one line, without the place."""
    detail = "" if error.got is None or "\n" in str(error.got) else f" ({error.got})"
    return f"{error.what}{detail}" if detail.count("domain") == 0 else error.what


def _renamed(attribute: Any, number: int) -> Any:
    """An attribute's value with symbols that other cases do not have."""
    if isinstance(attribute, tuple):
        return tuple(_renamed(item, number) for item in attribute)
    if isinstance(attribute, Sym):
        return replace(attribute, name=f"{attribute.name}_case{number}")
    if isinstance(attribute, DimExpr):
        make = {"add": sh.add, "mul": sh.mul, "floordiv": sh.floordiv, "mod": sh.mod, "min": sh.minimum, "max": sh.maximum}
        return make[attribute.op](*(_renamed(arg, number) for arg in attribute.args))
    return attribute


def _renamed_op(op: Op, number: int) -> Op:
    """The op with the sizes that it has, or finds, under names that other cases do not have."""
    return op.replace(**{k: _renamed(v, number) for k, v in op.attributes().items()}) if op.symbols else op


def merged(problems_: Mapping[str, Problem]) -> tuple[Graph, dict[str, Array], dict[str, list[str]]]:
    """One graph of many, its inputs, and the names of the outputs of each."""
    whole = Graph("merged")
    feeds: dict[str, Array] = {}
    outputs: dict[str, list[str]] = {}
    results, names = [], []
    for prefix, problem in problems_.items():
        values = {}
        for value in problem.graph.inputs:
            values[value] = whole.add_input(f"{prefix}/{value.name}", value.type)
            feeds[f"{prefix}/{value.name}"] = problem.feeds[value.name]
        for value in problem.graph.constants():
            assert value.const is not None
            values[value] = whole.add_const(value.const, f"{prefix}/{value.name}")
        for node in problem.graph.nodes:
            operands = [None if v is None else values[v] for v in node.inputs]
            made = whole.add(
                _renamed_op(node.op, len(outputs)),
                operands,
                name=f"{prefix}/{node.name}",
                source=node.source,
                outputs=[f"{prefix}/{v.name}" for v in node.outputs],
            )
            values.update(zip(node.outputs, made.outputs, strict=True))
        outputs[prefix] = [f"{prefix}/{name}" for name in problem.graph.output_names]
        names += outputs[prefix]
        results += [values[v] for v in problem.graph.outputs]
    whole.set_outputs(results, names)
    return whole, feeds, outputs
