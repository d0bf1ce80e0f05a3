"""Runs the command in this process and keeps what it wrote."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass

from strop.cli.main import main


@dataclass(frozen=True)
class Done:
    """Exit code, stdout and stderr."""

    code: int
    out: str
    err: str


def run(*arguments: object) -> Done:
    """What ``strop ARGUMENTS`` leaves; a clear error has one message on stderr and no traceback."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(a) for a in arguments])
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
    done = Done(code, out.getvalue(), err.getvalue())
    if code == 1:
        assert done.err.count("strop: ") == 1 and "Traceback" not in done.err, done.err
    return done
