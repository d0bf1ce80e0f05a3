"""What tuning says when it cannot do its work."""

from __future__ import annotations

from pathlib import Path

import pytest

from strop.errors import KernelError, OptionError, ToolchainError
from strop.tune import bench, search
from strop.tune.search import tune
from tests.tune.planted import planted, quiet


@pytest.fixture(autouse=True)
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "path_of", lambda target: tmp_path / "records.txt")


def test_no_python_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    for executable, text in (
        ("", "has no Python command"),
        ("/nowhere/python", "Python does not start"),
    ):
        monkeypatch.setattr(bench.sys, "executable", executable)
        with pytest.raises(ToolchainError, match=text) as caught:
            tune(planted("right", "right too"), 3, 60.0, quiet())
        assert caught.value.hint == "build with level 0"


def test_no_kernel_works() -> None:
    with pytest.raises(KernelError, match="no kernel for elementwise works") as caught:
        tune(planted("wrong", "nothing"), 3, 60.0, quiet())
    assert (
        caught.value.where == "relu"
        and "its result is wrong" in str(caught.value.got)
        and caught.value.hint
    )


@pytest.mark.parametrize(("level", "budget"), [(6, None), (-1, None), (3, -1.0), (3, float("nan"))])
def test_unusable_options(level: int, budget: float | None) -> None:
    with pytest.raises(OptionError) as caught:
        tune(planted("right"), level, budget, quiet())
    assert caught.value.expected
