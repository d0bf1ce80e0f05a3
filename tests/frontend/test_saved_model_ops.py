"""Every op of TensorFlow that is read, against what TensorFlow gave when ``make_tensorflow_ops`` was run."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop.frontend.saved_model import supported_operators
from strop.frontend.saved_model.messages import parse
from strop.frontend.table import read
from strop.ir.interp import run
from strop.ir.verify import verify
from strop.optimize.pipeline import optimize
from strop.trace import Trace

Array = np.ndarray[Any, Any]


def _cases() -> Mapping[str, dict[str, Array]]:
    found: dict[str, dict[str, Array]] = {}
    with tarfile.open(Path(__file__).parent / "tensorflow" / "ops.tar.xz") as archive:
        for member in archive:
            name, _, part = member.name.removesuffix(".npy").rpartition("/")
            file = archive.extractfile(member)
            assert file is not None
            found.setdefault(name, {})[part] = np.load(io.BytesIO(file.read()))
    return found


CASES = _cases()


@pytest.mark.parametrize("name", CASES)
def test_case(name: str, tmp_path: Path) -> None:
    parts = CASES[name]
    path = tmp_path / "case.pb"
    path.write_bytes(parts["graph"].tobytes())
    graph = read(path)
    verify(graph, "imported")
    feeds = {value.name: parts[value.name] for value in graph.inputs}
    wanted = {key: array for key, array in parts.items() if key.startswith("out")}
    for form in (graph, optimize(graph, Trace())):
        found = run(form, feeds)
        assert set(found) == set(wanted)
        for key, array in wanted.items():
            assert (found[key].dtype, found[key].shape) == (array.dtype, array.shape), key
            np.testing.assert_allclose(found[key], array, 1e-5, 1e-5, err_msg=key)


#: Ops that only models of several parts have: ``test_saved_model``.
ELSEWHERE = {
    "AssignAddVariableOp", "AssignSubVariableOp", "AssignVariableOp", "Case", "If", "ReadVariableOp", "ResourceGather", "ResourceGatherNd", "StatefulPartitionedCall", "While",
}  # fmt: skip


def test_every_op_is_tried() -> None:
    tried: set[str] = set(ELSEWHERE)
    for parts in CASES.values():
        proto = parse("Graph", parts["graph"].tobytes(), "")
        tried |= {n.op for n in proto.node} | {n.op for f in proto.library.function for n in f.node_def}
    assert set(supported_operators()) <= tried, sorted(set(supported_operators()) - tried)
