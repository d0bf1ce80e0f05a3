"""Every layer of Keras that is read, in ``.keras`` and ``.h5`` files of Keras 2 and 3, against what Keras gave."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("h5py", reason="the package h5py is not installed: pip install 'strop[keras]'")

import strop
from strop.frontend.keras import supported_layers
from strop.frontend.keras.archive import load
from strop.frontend.table import read
from strop.ir.interp import run
from strop.ir.verify import verify
from strop.optimize.pipeline import optimize
from strop.trace import Trace

Files = dict[str, bytes]


def _cases() -> dict[str, Files]:
    found: dict[str, Files] = {}
    with tarfile.open(Path(__file__).parent / "tensorflow" / "keras.tar.xz") as archive:
        for member in archive:
            name, _, part = member.name.rpartition("/")
            file = archive.extractfile(member)
            assert file is not None
            found.setdefault(name, {})[part] = file.read()
    return found


CASES = _cases()
RUNNING = [(name, part) for name, files in CASES.items() for part in files if part != "io.npz" and "refused" not in name]


def saved(name: str, part: str, folder: Path) -> Path:
    path = folder / part
    path.write_bytes(CASES[name][part])
    return path


def arrays(name: str) -> tuple[list[Any], list[Any]]:
    with np.load(io.BytesIO(CASES[name]["io.npz"])) as file:
        return [file[k] for k in sorted(file.files) if k.startswith("in")], [file[k] for k in sorted(file.files) if k.startswith("out")]


@pytest.mark.parametrize(("name", "part"), RUNNING)
def test_agrees_with_keras(name: str, part: str, tmp_path: Path) -> None:
    graph = read(saved(name, part, tmp_path))
    verify(graph, "imported")
    inputs, wanted = arrays(name)
    feeds = {value.name: array for value, array in zip(graph.inputs, inputs, strict=True)}
    for form in (graph, optimize(graph, Trace())):
        found = run(form, feeds)
        assert len(found) == len(wanted)
        for got, array in zip(found.values(), wanted, strict=True):
            assert got.shape == array.shape
            np.testing.assert_allclose(got, array, 1e-5, 1e-5)


def _classes(config: Any) -> set[str]:
    if isinstance(config, list):
        return set().union(*map(_classes, config)) if config else set()
    if not isinstance(config, dict):
        return set()
    own = {config["class_name"]} if isinstance(config.get("class_name"), str) else set()
    return own.union(*map(_classes, config.values()))


def test_every_layer_is_tried(tmp_path: Path) -> None:
    tried: set[str] = set()
    for name, part in RUNNING:
        tried |= _classes(load(saved(name, part, tmp_path)).config)
    idle = {n for n in supported_layers() if n.startswith(("Random", "Gaussian", "SpatialDropout"))} | {"ActivityRegularization", "AlphaDropout", "Identity"}
    assert set(supported_layers()) - idle <= tried, sorted(set(supported_layers()) - idle - tried)


def test_bytes_of_a_file() -> None:
    inputs, wanted = arrays("3/normalizing")
    graph = read(CASES["3/normalizing"]["net.h5"])
    (found,) = run(graph, {graph.inputs[0].name: inputs[0]}).values()
    np.testing.assert_allclose(found, wanted[0], 1e-5, 1e-5)


def test_an_engine_of_one_batch_for_all_inputs(tmp_path: Path) -> None:
    inputs, wanted = arrays("3/operators")
    path = saved("3/operators", "net.keras", tmp_path)
    engine = strop.build(path, level=0, threads=1, shapes={"batch": "1..4(2)"})
    (found,) = (np.asarray(a) for a in engine.run(dict(zip(("a", "b"), inputs, strict=True))).values())
    np.testing.assert_allclose(found, wanted[0], 1e-5, 1e-5)
