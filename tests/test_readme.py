"""What the README shows is what happens: its Python, its commands, its table, its links."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from strop import demo_data
from strop.cli.main import VERBS
from strop.frontend.onnx.registry import MAX_OPSET, MIN_OPSET

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str, text: str = README) -> list[str]:
    """Fenced blocks of a language; empty for those without one."""
    parts = re.split(r"^```(.*)\n", text, flags=re.M)  # text, language, block, "", text, language, ...
    return [block for tag, block in zip(parts[1::4], parts[2::4], strict=True) if tag == language]


def commands(text: str = README) -> list[str]:
    """Command lines of the blocks without a language."""
    return [line for block in blocks("", text) for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader would be, with the model of the examples."""
    made = tmp_path_factory.mktemp("readme")
    shutil.copy(demo_data.lenet_path(), made / "lenet.onnx")
    return made


def python(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=300, check=False, env=environment
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_python_examples_run(document: Path, folder: Path) -> None:
    examples = blocks("python", document.read_text(encoding="utf-8"))
    assert examples or document.name not in ("README.md", "debugging.md")
    for example in examples:
        done = python(["-c", example], folder)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()


def test_pytorch_examples_run(folder: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'strop[torch]'")
    (example,) = blocks("py")
    done = python(["-c", example], folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(4, 8, 32, 32)"


def test_the_commands_run_in_order(folder: Path) -> None:
    lines = [line for line in commands() if line.startswith("strop ")]
    assert len(lines) >= 5
    for line in lines:
        done = python(["-m", "strop.cli.main", *shlex.split(line)[1:]], folder)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        assert done.stdout.strip()
    assert (folder / "logits.npz").exists()


def test_the_two_commands_are_the_first_ones() -> None:
    assert commands()[:2] == ["pip install . && strop demo", "pip install '.[test]' && pytest"]
    assert "pip install --quiet --disable-pip-version-check '.[test]' && pytest" in (ROOT / ".ci" / "run").read_text()


def test_every_verb_is_in_the_table() -> None:
    assert set(re.findall(r"^\| `strop (\w+)", README, re.M)) == set(VERBS)


def test_opsets_are_those_that_are_read() -> None:
    assert f"opsets {MIN_OPSET} to {MAX_OPSET}" in README


def test_the_number_of_digits_is_right() -> None:
    _, labels = demo_data.held_back_digits()
    assert f"{len(labels):,} held-back MNIST digits" in README


def test_the_tour_shows_what_is_there(folder: Path) -> None:
    """Lines of ``ir`` blocks are in a dump, lines quoted from the runtime in its sources."""
    tour = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")
    done = python(["-m", "strop.cli.main", "build", "lenet.onnx", "--stop-after", "lower", "--dump", "tour"], folder)
    assert done.returncode == 0, done.stderr
    dumped = "\n".join(path.read_text(encoding="utf-8") for path in (folder / "tour").iterdir())
    (lines,) = blocks("ir", tour)
    assert [line for line in lines.splitlines() if line not in dumped] == []
    source = (ROOT / "src" / "strop" / "runtime" / "src" / "run.c").read_text(encoding="utf-8")
    loop = blocks("c", tour)[-1]
    assert [line for line in loop.splitlines() if line.strip() != "..." and line not in source] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in link:
            assert (document.parent / link).exists(), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_named_files_are_there(document: Path) -> None:
    """A path in backquotes that ends like a source file is one of the repository or of the package."""
    text = document.read_text(encoding="utf-8")
    for name in set(re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|c|h|hpp|md|toml))(?:::\w+)?`", text)):
        if "NAME" in name:
            continue
        places = (ROOT / name, ROOT / "src" / name, ROOT / "src" / "strop" / name)
        assert any(place.exists() for place in places), name
