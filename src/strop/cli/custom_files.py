"""The Python files of STROP_CUSTOM, which declare custom layers for the command."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from strop import knobs
from strop.errors import OptionError, StropError


def run_custom_files() -> None:
    """Runs the files that STROP_CUSTOM names, once per process.

    Raises:
        OptionError: a file that is not there, or that fails.
    """
    for text in filter(None, knobs.CUSTOM.get().split(os.pathsep)):
        path = Path(text).resolve()
        name = f"strop_custom_file_{path.stem}"
        known = sys.modules.get(name)
        if known is not None and known.__file__ == str(path):
            continue
        spec = importlib.util.spec_from_file_location(name, path) if path.is_file() and path.suffix == ".py" else None
        if spec is None or spec.loader is None:
            raise OptionError("STROP_CUSTOM names no Python file", got=text, expected="paths of .py files, separated by " + os.pathsep)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up
        try:
            spec.loader.exec_module(module)
        except StropError:
            raise
        except Exception as error:
            del sys.modules[name]
            raise OptionError(
                "a file of STROP_CUSTOM failed", where=str(path), got=f"{type(error).__name__}: {error}", hint=f"python {path} shows where"
            ) from error
