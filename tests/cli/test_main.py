"""The frame of the command: verbs, help, errors and exit codes."""

from __future__ import annotations

import io
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from strop.cli import output
from strop.cli.main import VERBS, main
from strop.errors import ModelError, OptionError
from strop.version import __version__
from tests.cli.conftest import Strop


def test_version(strop: Strop) -> None:
    done = strop("--version")
    assert (done.code, done.out) == (0, f"strop {__version__}\n")


def test_help_lists_every_verb(strop: Strop) -> None:
    done = strop("--help")
    assert done.code == 0
    assert all(f"\n  {verb} " in done.out for verb in VERBS)


def test_no_arguments_is_help(strop: Strop) -> None:
    assert "Commands:" in strop().out + strop().err


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_a_module_with_that_help(verb: str, strop: Strop) -> None:
    command = import_module(f"strop.cli.{verb}").command
    assert command.__doc__.splitlines()[0] == VERBS[verb]
    done = strop(verb, "--help")
    assert done.code == 0
    assert VERBS[verb].split(":")[0] in " ".join(done.out.split())


def test_every_module_is_a_verb_or_shared() -> None:
    folder = Path(output.__file__).parent
    assert {p.stem for p in folder.glob("*.py")} - {"__init__", "custom_files", "main", "output", "source", "debug_precision", "accuracy", "factors"} == set(VERBS)


@pytest.mark.parametrize("arguments", [["polish"], ["build"], ["run", "x", "--seed", "many"], ["build", "m", "--levle", "3"]])
def test_a_wrong_command_line_exits_2(arguments: list[str], strop: Strop) -> None:
    done = strop(*arguments)
    assert done.code == 2
    assert "Error" in done.err and "Traceback" not in done.err


def test_an_error_is_one_message_and_exit_1(strop: Strop) -> None:
    done = strop("build", "nothing.onnx", "-o", "nothing.strop")
    assert done.code == 1
    assert done.out == ""
    assert done.err.startswith("strop: ") and "nothing.onnx" in done.err
    assert "Traceback" not in done.err


def test_debugging_shows_where_an_error_was_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STROP_DEBUG", "1")
    with pytest.raises(ModelError):
        main(["build", "nothing.onnx", "-o", "nothing.strop"])


def test_an_unusable_debug_level_is_an_error_itself(strop: Strop, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STROP_DEBUG", "loud")
    done = strop("build", model, "--stop-after", "frontend")
    assert done.code == 1
    assert "STROP_DEBUG" in done.err


def test_a_terminal_gets_a_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    output.show_error(OptionError("what", where="node [bold]x[/]", got=1, expected=2, hint="less"))
    text = terminal.getvalue()
    assert "OptionError" in text and "╭" in text
    assert "[bold]x[/]" in text  # names from a file are not markup


def test_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "strop.cli.main", "--version"], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == f"strop {__version__}\n"


def test_help_imports_neither_compiler_nor_onnx() -> None:
    code = (
        "import sys; from strop.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "bad = {'onnx', 'strop.engine.build', 'strop.codegen.toolchain', 'strop.optimize'} & set(sys.modules)\n"
        "sys.exit(f'imported {bad}' if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
