"""Command-line options and fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from strop import custom

#: Read when triton is imported, by whichever test comes first. Machine code is made in child processes, which do not see it.
os.environ["TRITON_INTERPRET"] = "1"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--models", type=Path, default=None, help="folder of .onnx nets for tests marked 'models'")
    parser.addoption("--suite", type=Path, default=None, help="folder that `python -m bench.suite fetch` filled; its tests are slow")
    parser.addoption("--peers", type=Path, default=None, help="virtual environment with other runtimes, see bench/setup_peers.sh")
    parser.addoption("--gpu", action="store_true", help="also run tests marked 'gpu', on the NVIDIA GPU of this machine")
    parser.addoption("--slow", action="store_true", help="also run tests marked 'slow'")
    parser.addoption("--fuzz-seed", type=int, default=None, help="first batch and mutation of tests/fuzz, as STROP_FUZZ_SEED; fresh by default")
    parser.addoption("--fuzz-seconds", type=float, default=60.0, help="how long tests/fuzz looks at random graphs")
    parser.addoption("--update-golden", action="store_true", help="rewrite golden files instead of comparing")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    slow = pytest.mark.skip(reason="slow; run with --slow")
    models = pytest.mark.skip(reason="needs --models DIR")
    gpu = pytest.mark.skip(reason="needs an NVIDIA GPU; run with --gpu where there is one")
    for item in items:
        if item.get_closest_marker("gpu") is not None and not config.getoption("--gpu"):
            item.add_marker(gpu)
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(slow)
        if "models" in item.keywords and config.getoption("--models") is None:
            item.add_marker(models)


@pytest.fixture(scope="module", autouse=True)
def no_custom_layer_outlives_its_module() -> Iterator[None]:
    """Tests that iterate the table of ops meet only those that are built in."""
    yield
    for name in custom.declared():
        custom.forget(name)


@pytest.fixture(scope="session")
def models_dir(request: pytest.FixtureRequest) -> Path:
    """Folder given with --models."""
    folder = request.config.getoption("--models")
    if folder is None:
        pytest.skip("needs --models DIR")
    return Path(folder)


@pytest.fixture(scope="session")
def suite_dir(request: pytest.FixtureRequest) -> Path:
    """Folder given with --suite."""
    folder = request.config.getoption("--suite")
    if folder is None:
        pytest.skip("needs --suite DIR")
    return Path(folder)


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """True when golden files are to be rewritten."""
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture
def fuzz_seed(request: pytest.FixtureRequest) -> int | None:
    """The seed to repeat, or None for a fresh one."""
    found = request.config.getoption("--fuzz-seed")
    text = os.environ.get("STROP_FUZZ_SEED", "")
    return found if found is not None else int(text) if text else None


@pytest.fixture
def fuzz_seconds(request: pytest.FixtureRequest) -> float:
    """Seconds of random graphs."""
    return float(request.config.getoption("--fuzz-seconds"))
