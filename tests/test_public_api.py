"""The names users may rely on, and what importing them costs."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import strop
from strop.engine.build import build
from tests import tiny_net

ROOT = Path(__file__).parents[1]

PUBLIC = [
    "CustomError",
    "Engine",
    "EngineFileError",
    "GraphError",
    "InputError",
    "KernelError",
    "ModelError",
    "Network",
    "OptionError",
    "PlacementWarning",
    "RuntimeFailure",
    "ShapeError",
    "StropError",
    "Target",
    "TargetError",
    "ToolchainError",
    "UnsupportedError",
    "VerifyError",
    "__version__",
    "bench",
    "build",
    "calibrate",
    "convert",
    "custom",
    "layers",
    "load",
    "profile",
    "quantize",
    "report",
    "sweep",
]
ENGINE = [
    "accuracy_report", "attach", "attachment", "context", "from_sections", "graph_text", "inputs", "is_loaded", "manifest", "memory", "outputs", "placement", "profile", "random_inputs", "run",
    "save", "session",
]  # fmt: skip

#: Refuses modules by name, as in a process that does not have them.
HIDE = """
import importlib.abc, sys
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hide())
"""


def python(code: str, hide: tuple[str, ...] = (), **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh interpreter without the hidden packages."""
    return subprocess.run(
        [sys.executable, "-c", HIDE.format(names=hide) + code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        check=False,
    )


def test_public_names() -> None:
    assert sorted(PUBLIC) == sorted(strop.__all__) == dir(strop)
    for name in PUBLIC:
        assert getattr(strop, name) is not None


def test_every_error_is_public() -> None:
    errors = {name for name, value in vars(strop.errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert errors <= set(PUBLIC)


def test_build_is_the_driver() -> None:
    assert strop.build is build
    parameters = inspect.signature(strop.build).parameters
    assert list(parameters)[:6] == ["model", "target", "threads", "level", "budget", "shapes"]
    defaults = {n: parameters[n].default for n in ("target", "threads", "level", "budget", "shapes")}
    assert defaults == {"target": "host", "threads": None, "level": 3, "budget": None, "shapes": None}
    assert all(p.kind is p.KEYWORD_ONLY for n, p in parameters.items() if n != "model")


def test_engine_names() -> None:
    public = {n for n in vars(strop.Engine) if not n.startswith("_")}
    assert public == set(ENGINE)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'sharpen'"):
        strop.sharpen  # noqa: B018
    with pytest.raises(ImportError):
        exec("from strop import sharpen")


def test_the_version_is_the_packages() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^version = "(.*)"$', text, re.M)[1] == strop.__version__  # type: ignore[index]


def test_types_are_shipped() -> None:
    assert (Path(strop.__file__).parent / "py.typed").exists()


def test_an_engine_runs_without_the_compiler() -> None:
    """No ``ziglang``, no ``onnx``, nothing on PATH, and no folder to cache in."""
    code = (
        "import numpy as np, strop\n"
        f"y = strop.load({str(tiny_net.engine_file())!r})(np.zeros({tiny_net.INPUT_SHAPE}, np.float32))\n"
        "print(y.tolist())\n"
        "bad = [m for m in sys.modules if m.split('.')[0] in ('onnx', 'ziglang', 'typer', 'rich')"
        " or m.startswith(('strop.lower', 'strop.codegen', 'strop.optimize', 'strop.kernels', 'strop.tune', 'strop.frontend'))]\n"
        "assert not bad, bad\n"
    )
    done = python(code, ("onnx", "ziglang", "typer", "rich"), PATH="", STROP_CACHE="/nonexistent/x")
    assert done.returncode == 0, done.stderr
    want = tiny_net.engine()(np.zeros(tiny_net.INPUT_SHAPE, np.float32))
    np.testing.assert_array_equal(np.array(json.loads(done.stdout), np.float32), want)


def test_the_command_runs_an_engine_without_the_compiler() -> None:
    code = f"from strop.cli.main import main; main(['run', {str(tiny_net.engine_file())!r}, '--random', '--json'])"
    done = python(code, ("onnx", "ziglang"), PATH="")
    assert done.returncode == 0, done.stderr


def test_building_without_onnx_names_the_package() -> None:
    done = python("import strop; strop.build('m.onnx')", ("onnx",))
    assert done.returncode != 0 and "onnx" in done.stderr.splitlines()[-1]
    done = python("from strop.cli.main import main; main(['build', 'm.onnx', '-o', 'm.strop'])", ("onnx",))
    assert done.returncode == 1
    assert done.stderr.startswith("strop: the package onnx is not installed") and "Traceback" not in done.stderr
