"""Debug ladder, stage dumps, patch counter and stage timings: one Trace object per build.

Ladder (``STROP_DEBUG``): 1 stage times, 2 chosen kernels with their competitors, 3 applied patches,
4 emitted C, 5 every match tried.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strop import knobs
from strop.errors import OptionError

#: Called as progress(stage, done, total); total 0 means unknown.
Progress = Callable[[str, int, int], None]


@dataclass
class Trace:
    """What one build tells about itself.

    Attributes:
        dump_dir: folder for the numbered dump files, or None.
        stop_after: stage name after which the build ends, or None.
        progress: callback for progress bars.
        timings: seconds per stage, in order.
        patches: (pass, rule, note) per applied patch.
        notes: things a user should know about this build, shown by the CLI.
        sources: the model's nodes as they were read, see ``strop.engine.sources``.
    """

    dump_dir: Path | None = None
    stop_after: str | None = None
    progress: Progress | None = None
    debug: int = field(default_factory=knobs.DEBUG.get)
    timings: dict[str, float] = field(default_factory=dict)
    patches: list[tuple[str, str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sources: list[Any] = field(default_factory=list)
    fuel: int = field(default_factory=knobs.PATCHES.get)
    _dumped: int = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a stage and announces it."""
        self.report(name, 0, 0)
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            self.timings[name] = self.timings.get(name, 0.0) + seconds
            self.log(1, f"{name}: {seconds * 1e3:.1f} ms")

    def report(self, stage: str, done: int, total: int) -> None:
        """Tells the progress callback, if there is one."""
        if self.progress is not None:
            self.progress(stage, done, total)

    def log(self, level: int, text: str) -> None:
        """Prints to stderr when the ladder stands at ``level`` or above."""
        if self.debug >= level:
            print(f"[strop] {text}", file=sys.stderr)

    def note(self, text: str) -> None:
        """Records something the user should know."""
        if text not in self.notes:
            self.notes.append(text)
            self.log(1, text)

    def dump(self, name: str, text: Callable[[], str]) -> None:
        """Writes ``NN_name`` into the dump folder; ``text`` is only called when there is one.

        Raises:
            OptionError: the folder or the file cannot be written.
        """
        if self.dump_dir is None:
            return
        path = self.dump_dir / f"{self._dumped:02d}_{name}"
        content = text()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        except OSError as error:
            raise OptionError(
                "cannot write a dump file",
                where=str(path),
                got=error.strerror or error,
                hint="dump into a folder that can be made and written",
            ) from error
        self._dumped += 1

    def patched(self, pass_name: str, rule: str, note: str) -> None:
        """Counts an applied patch."""
        self.patches.append((pass_name, rule, note))
        self.log(3, f"patch {len(self.patches)}: {pass_name} {rule}: {note}")

    def may_patch(self) -> bool:
        """False once the patch fuel is used up (``STROP_PATCHES``), for bisecting."""
        return self.fuel < 0 or len(self.patches) < self.fuel
