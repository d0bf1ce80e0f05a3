"""Runs the command in this process, as a user would see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from strop.cli.main import main
from tests import tiny_net


@dataclass(frozen=True)
class Done:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


Strop = Callable[..., Done]


@pytest.fixture
def strop(capsys: pytest.CaptureFixture[str]) -> Strop:
    """``strop("build", path)`` runs the command line and returns what it left."""

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(a) for a in arguments])
        text = capsys.readouterr()
        code = ended.value.code
        return Done(code if isinstance(code, int) else 0, text.out, text.err)

    return run


@pytest.fixture(scope="session")
def model() -> Path:
    """A small .onnx file."""
    return tiny_net.model_file()


@pytest.fixture(scope="session")
def engine() -> Path:
    """The engine file of ``model``."""
    return tiny_net.engine_file()
