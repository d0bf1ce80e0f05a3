"""SavedModels: variables, functions, signatures, branches and loops over variables, against what TensorFlow gave."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop.frontend.table import read
from strop.ir.interp import run
from strop.ir.verify import verify
from strop.optimize.pipeline import optimize
from strop.trace import Trace

MODELS = Path(__file__).parent / "tensorflow" / "saved_models.tar.xz"
CALLS = (("lenet", "serving_default"), ("recurrent", "serving_default"), ("module", "serving_default"), ("module", "double"))


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
