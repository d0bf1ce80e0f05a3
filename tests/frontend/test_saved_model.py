"""SavedModels: variables, functions, signatures, branches and loops over variables, against what TensorFlow gave."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import strop
from strop.engine.describe import describe
from strop.errors import UnsupportedError
from strop.frontend.saved_model.checksum import masked
from strop.frontend.saved_model.reader import initial_state
from strop.frontend.table import read
from strop.ir.interp import run
from strop.ir.verify import verify
from strop.optimize.pipeline import optimize
from strop.trace import Trace
from tests.errors.command import run as command
from tests.frontend.saved_model_files import Saved, node

MODELS = Path(__file__).parent / "tensorflow" / "saved_models.tar.xz"
CALLS = (("lenet", "serving_default"), ("recurrent", "serving_default"), ("sequences", "serving_default"), ("session", "serving_default"), ("module", "serving_default"), ("module", "double"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all models."""
    folder = tmp_path_factory.mktemp("saved_models")
    with tarfile.open(MODELS) as archive:
        archive.extractall(folder, filter="data")
    return folder


def arrays(path: Path) -> dict[str, Any]:
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


@pytest.mark.parametrize(("name", "signature"), CALLS)
def test_agrees_with_tensorflow(models: Path, name: str, signature: str) -> None:
    graph = read(models / name, signature=signature)
    verify(graph, "imported")
    feeds, wanted = (arrays(models / name / f"{signature}.{part}.npz") for part in ("in", "out"))
    for form in (graph, optimize(graph, Trace())):
        found = run(form, feeds)
        assert set(found) == set(wanted)
        for key, array in wanted.items():
            np.testing.assert_allclose(found[key], array, 1e-5, 1e-5, err_msg=key)


def test_an_engine_for_any_batch_moves_no_layouts(models: Path) -> None:
    feeds, wanted = (arrays(models / "lenet" / f"serving_default.{part}.npz") for part in ("in", "out"))
    engine = strop.build(models / "lenet", level=0, threads=1, shapes={"inputs": "1..4(2)x28x28x1"})
    for size in (1, 3):
        (found,) = (np.asarray(a) for a in engine.run({"inputs": feeds["inputs"][:size]}).values())
        np.testing.assert_allclose(found, wanted["output_0"][:size], 1e-4, 1e-5)
    assert not [step.name for step in describe(engine).steps if step.copy or step.transpose]


def test_the_command_reads_folders_and_signatures(models: Path) -> None:
    done = command("dump", models / "module", "--signature", "double")
    assert done.code == 0 and "f32[2,4]" in done.out
    done = command("check", models / "lenet", "--shape", "inputs=1x28x28x1")
    assert done.code == 0 and "Conv2D" in done.out


def test_strings_are_not_read(models: Path) -> None:
    with pytest.raises(UnsupportedError, match="op StringLength is not supported"):
        read(models / "strings")


def test_variables_that_a_run_changes_go_in_and_out(models: Path) -> None:
    """y = x + count behind count += 1."""
    graph = read(models / "counter")
    state = initial_state(models / "counter")
    x = np.array([1, 2], np.float32)
    assert [v.name for v in graph.inputs] == ["x", *state] and graph.output_names == ["y", f"{next(iter(state))}.next"]
    for step in range(1, 4):
        found = run(optimize(graph, Trace()), {"x": x, **state})
        np.testing.assert_array_equal(found["y"], x + step)
        state = {name: found[f"{name}.next"] for name in state}


def test_reads_and_assignments_keep_their_order(tmp_path: Path) -> None:
    """y = x + v before v = 2 v, which only control edges tell; the next run begins with the new v."""
    saved = Saved()
    nodes = saved.function.node_def
    node(nodes, "twice", "AddV2", "read:value:0", "read:value:0")
    node(nodes, "write", "AssignVariableOp", "r", "twice:z:0", "^sum")
    saved.function.control_ret.add(key="write", value="write")
    graph = read(saved.write(tmp_path))
    x = np.zeros((1, 2), np.float32)
    found = run(graph, {"x": x, **initial_state(tmp_path)})
    np.testing.assert_array_equal(found["y"], [[1.5, -2.0]])
    np.testing.assert_array_equal(found["v.next"], [3.0, -4.0])
    node(nodes, "later", "ReadVariableOp", "r", "^write")
    saved.function.ret[0].value = "late:z:0"
    node(nodes, "late", "AddV2", "a", "later:value:0")
    found = run(read(saved.write(tmp_path)), {"x": x, **initial_state(tmp_path)})
    np.testing.assert_array_equal(found["y"], [[3.0, -4.0]])
    next(n for n in nodes if n.name == "write").op = "AssignSubVariableOp"
    found = run(read(saved.write(tmp_path)), {"x": x, **initial_state(tmp_path)})
    np.testing.assert_array_equal(found["y"], [[-1.5, 2.0]])


def test_variables_lie_in_several_files(tmp_path: Path) -> None:
    saved = Saved()
    saved.header.num_shards, saved.entry.shard_id, saved.entry.offset = 3, 2, 8
    folder = saved.write(tmp_path)
    (folder / "variables" / "variables.data-00002-of-00003").write_bytes(b"12345678" + saved.data)
    (found,) = run(read(folder), {"x": np.zeros((1, 2), np.float32)}).values()
    np.testing.assert_array_equal(found, [[1.5, -2.0]])
    assert masked(saved.data) == saved.entry.crc32c
