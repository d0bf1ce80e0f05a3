"""Places that cannot be written: nothing half-written stays behind."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from strop.engine.build import build
from strop.errors import EngineFileError, OptionError
from tests import tiny_net
from tests.errors.command import run

needs_user = pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")


def test_saving_into_no_folder(tmp_path: Path) -> None:
    with pytest.raises(EngineFileError, match="cannot write the engine file") as error:
        tiny_net.engine().save(tmp_path / "none" / "net.strop")
    assert "none/net.strop" in (error.value.where or "") and error.value.hint
    assert os.listdir(tmp_path) == []


def test_saving_over_a_folder(tmp_path: Path) -> None:
    (tmp_path / "net.strop").mkdir()
    with pytest.raises(EngineFileError, match="cannot write"):
        tiny_net.engine().save(tmp_path / "net.strop")
    assert os.listdir(tmp_path) == ["net.strop"]


def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.strop"
    path.write_bytes(b"old")

    def full(source: object, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(EngineFileError, match="cannot write") as error:
        tiny_net.engine().save(path)
    assert error.value.got == "No space left on device"
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["net.strop"]


@needs_user
def test_saving_into_a_folder_that_is_not_writable(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(EngineFileError, match="cannot write"):
        tiny_net.engine().save(tmp_path / "net.strop")
    done = run("build", tiny_net.model_file(), "-o", tmp_path / "net.strop")
    assert done.code == 1 and "not writable" in done.err


@pytest.mark.parametrize("place", ["none/net.strop", "file/net.strop", "."])
def test_the_command_refuses_before_it_builds(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("build", "missing.onnx", "-o", tmp_path / place)
    assert done.code == 1 and "cannot write the output file" in done.err
    assert os.listdir(tmp_path) == ["file"]


def test_a_build_that_fails_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(tiny_net.model_file().read_bytes()[:-100])
    done = run("build", tmp_path / "m.onnx", "-o", tmp_path / "net.strop")
    assert done.code == 1 and "m.onnx" in done.err
    assert os.listdir(tmp_path) == ["m.onnx"]


def test_a_dump_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="cannot write a dump file"):
        build(tiny_net.model_file(), level=0, dump=tmp_path / "file")
    done = run("build", tiny_net.model_file(), "--stop-after", "frontend", "--dump", tmp_path / "file" / "d")
    assert done.code == 1 and "cannot write a dump file" in done.err


def test_a_cache_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STROP_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OptionError, match="cache folder") as error:
        build(tiny_net.model_file(), level=0)
    assert error.value.hint and "STROP_CACHE" in error.value.hint
