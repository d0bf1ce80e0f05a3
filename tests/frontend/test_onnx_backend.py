"""The backend tests that come with onnx: each is read and run by the oracle, or refused by name."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

from strop.errors import StropError, UnsupportedError
from strop.frontend.onnx import read_onnx, supported_op_types
from strop.frontend.onnx.registry import MIN_OPSET
from strop.ir import dtype as dt
from strop.ir.interp import run
from tests.frontend.onnx_models import compare

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"

#: Node tests that use supported ops and are refused or answered otherwise, with the reason.
EXCEPTIONS: tuple[tuple[str, str], ...] = (
    (r"test_batchnorm_.*training_mode", "training"),
    (r"test_training_dropout(?!_zero_ratio)", "training"),
    (r"test_maxpool_with_argmax_", "indices of the maxima"),
    (r"test_reduce_mean_empty_set", "mean of nothing"),
    (r"test_einsum_batch_diagonal", "diagonals"),
    (
        r"test_resize_downsample_scales_(linear|cubic)_align_corners",
        "the test divides by a fractional size where the text, as ONNX Runtime, has the result's size",
    ),
)

Case = tuple[str, ModelProto, list[tuple[list[Any], list[Any]]], float, float]


def node_cases() -> Iterator[Case]:
    """name, model, data sets, rtol, atol of every node test."""
    from onnx.backend.test.loader import load_node_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = load_node_model_tests()
    for case in found:
        yield case.name, case.model, case.data_sets, case.rtol, case.atol


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
        yield folder.name, model, sets, 1e-3, 1e-5


def _numbered(folder: Path, prefix: str) -> list[Path]:
    return sorted(folder.glob(f"{prefix}_*.pb"), key=lambda p: int(p.stem.rsplit("_", 1)[1]))


def _load(path: Path) -> TensorProto:
    tensor = TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return tensor


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else value


def _with_known(model: ModelProto, feeds: Mapping[str, Any], first: int) -> ModelProto:
    """The model with inputs from number ``first`` on made initializers."""
    copy = ModelProto()
    copy.CopyFrom(model)
    for info in list(copy.graph.input)[first:]:
        tensor = numpy_helper.from_array(np.asarray(feeds[info.name]), info.name)
        copy.graph.initializer.append(tensor)
    return copy


def answer(model: ModelProto, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """The oracle's outputs; operands that must be known become initializers, all but the first input or all."""
    for first in (len(model.graph.input), 1, 0):
        try:
            graph = read_onnx(_with_known(model, feeds, first))
        except UnsupportedError as error:
            if first == 0 or "must be known" not in str(error):
                raise
            continue
        return run(graph, {v.name: np.asarray(feeds[v.name]) for v in graph.inputs})
    raise AssertionError("not reached")


def may_refuse(name: str, model: ModelProto) -> bool:
    """Whether a case needs something that is not supported: an op, an opset, an element type, or a listed feature."""
    opsets = {o.domain: o.version for o in model.opset_import}
    if opsets.get("", MIN_OPSET) < MIN_OPSET or any(re.match(p, name) for p, _ in EXCEPTIONS):
        return True
    supported = supported_op_types()
    if any(n.domain or n.op_type not in supported for n in model.graph.node):
        return True
    codes = [n.t.data_type for node in model.graph.node for n in node.attribute if n.HasField("t")]
    codes += [
        a.i for n in model.graph.node if n.op_type == "Cast" for a in n.attribute if a.name == "to"
    ]
    for info in (*model.graph.input, *model.graph.output):
        if info.type.WhichOneof("value") != "tensor_type":
            return True
        codes.append(info.type.tensor_type.elem_type)
    return any(code not in dt.BY_CODE for code in codes)


def judge(cases: Iterator[Case]) -> tuple[Counter[str], list[str]]:
    """How many pass and are refused, and what is wrong with the others."""
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for name, model, sets, rtol, atol in cases:
        inputs = [i.name for i in model.graph.input]
        try:
            for arrays, expected in sets:
                feeds = dict(zip(inputs, map(_array, arrays), strict=False))
                got = answer(model, feeds)
                _compare_all(got, [_array(e) for e in expected], rtol, atol)
        except UnsupportedError as error:
            counts["refused"] += 1
            if not may_refuse(name, model):
                wrong.append(f"{name}: {error}")
        except (AssertionError, StropError) as error:
            counts["wrong"] += 1
            if not any(re.match(pattern, name) for pattern, _ in EXCEPTIONS):
                wrong.append(f"{name}: {type(error).__name__} {error}")
        else:
            counts["passed"] += 1
    return counts, wrong


def _compare_all(got: Mapping[str, Any], expected: Sequence[Any], rtol: float, atol: float) -> None:
    assert len(got) == len(expected)
    for result, wanted in zip(got.values(), expected, strict=True):
        compare(result, np.asarray(wanted), rtol, atol)


def test_node_cases(record_property: Any) -> None:
    counts, wrong = judge(node_cases())
    record_property("node_cases", dict(counts))
    assert not wrong, "\n".join(wrong)
    assert counts["wrong"] <= 2, counts
    assert counts["passed"] >= counts["refused"] * 2, counts
    if tuple(map(int, onnx.__version__.split(".")[:2])) == (1, 23):
        assert counts["passed"] >= 1310, counts


@pytest.mark.parametrize(
    ("kind", "least"), [("simple", 7), ("pytorch-operator", 35), ("pytorch-converted", 82)]
)
def test_stored_cases(kind: str, least: int) -> None:
    counts, wrong = judge(file_cases(kind))
    assert not wrong, "\n".join(wrong)
    assert counts["passed"] >= least, counts
