"""Models that only an attacker or a broken exporter writes, each refused or read in a way that was not always so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop.errors import ModelError, StropError
from strop.frontend.onnx import read_onnx
from strop.ir import text
from strop.lower.pipeline import lower
from strop.optimize.pipeline import optimize
from strop.target.detect import host
from strop.trace import Trace
from tests import tiny_net


def test_a_name_of_external_data_that_no_file_can_have(tmp_path: Path) -> None:
    model = tiny_net.model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="x" * 9000)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="unusable external data file name") as caught:
        read_onnx(tmp_path / "net.onnx")
    assert len(str(caught.value)) < 1000


def test_a_free_size_times_a_float() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Mul", ["s", "half"], ["t"]),
        helper.make_node("Reshape", ["x", "t"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], [numpy_helper.from_array(np.asarray([0.5], np.float32), "half")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    with pytest.raises(StropError):
        read_onnx(model, {"x": "1..9"})


@pytest.mark.parametrize("weights", ["[1,10,3]", "[1,10,n]"])
def test_a_recurrent_layer_with_free_sizes_lowers_or_is_refused(weights: str) -> None:
    size = weights[6:-1]
    graph = text.parse(
        f'graph "g"\nsymbol n = 2..9 opt 6\nsymbol s = 1..7 opt 3\ninput %x : f32[s,2,{size}]\ninput %w : f32{weights}\ninput %r : f32[1,10,10]\n'
        "%y : f32[s,1,2,10], %z : f32[1,2,10] = rnn(%x, %w, %r) "
        '{direction="forward", activations=[["tanh",0.0,0.0]], clip=inf, projected=false} @ "rnn"\noutput %y as "y"\n',
        {},
    )
    try:
        lowered = lower(optimize(graph, Trace()), host(), Trace())
    except StropError as error:
        assert error.where == "rnn"
    else:
        assert any(step.region.source == ("rnn",) for step in lowered.steps)


def test_a_model_of_nothing_is_refused() -> None:
    with pytest.raises(ModelError):
        read_onnx(onnx.ModelProto().SerializeToString())
