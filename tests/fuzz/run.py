"""The fuzzer's loop: batches of random graphs, a line of progress each, findings reduced and written as tests."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from strop.kernels.table import KERNELS
from tests.fuzz.examine import Finding, Setup, examine
from tests.fuzz.generate import Case, labels, make_case
from tests.fuzz.reduce import reduce_case
from tests.fuzz.replay import write_test

#: Seeds of cases per batch; the batch's own seed times this is its first case's.
STRIDE = 1000


class Fuzzer:
    """Attributes:
    findings: what disagreed, reduced cases first made small.
    graphs: how many were compared.
    ops: compared nodes by label.
    kernels: compared launches by kernel.
    """

    def __init__(self, seed: int, ops: tuple[str, ...] = (), batch: int = 64, folder: Path | None = None,
                 reduces: bool = True, out: TextIO | None = None, runs: bool = True) -> None:  # fmt: skip
        self.seed, self.wanted, self.batch, self.folder, self.reduces, self.out = seed, ops, batch, folder, reduces, out
        self.runs = runs
        self.findings: list[Finding] = []
        self.graphs = 0
        self.ops: Counter[str] = Counter()
        self.kernels: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.seconds = 0.0

    def run(self, seconds: float) -> None:
        """Batches until the time is over, at least one."""
        self._say(f"seed {self.seed}")
        start = time.monotonic()
        number = self.seed
        while True:
            self._one(number)
            self.seconds = time.monotonic() - start
            self._say(self.line(number))
            number += 1
            if self.seconds > seconds:
                return

    def _one(self, number: int) -> None:
        setup = Setup.random(number)
        cases = {c.seed: c for c in (make_case(number * STRIDE + k, self.wanted) for k in range(self.batch))}
        result = examine(list(cases.values()), setup, self.runs)
        self.graphs += len(cases)
        self.ops += result.ops
        self.kernels += result.kernels
        self.refused += result.refused
        for finding in result.findings:
            self.findings.append(finding)
            self._say(f"FOUND in batch {number}: {finding.kind}, case {finding.seed}: {finding.text[:600]}")
            if self.reduces:
                self._reduce(cases[finding.seed], finding, setup)

    def _reduce(self, case: Case, finding: Finding, setup: Setup) -> None:
        setup = narrowed(case, finding, setup)
        small = reduce_case(case, lambda c: fails_alike(c, finding, setup))
        found = next(iter(examine([small], setup).findings), finding)
        if self.folder is not None:
            self._say(f"written to {write_test(self.folder, small, replace(found, seed=finding.seed), setup)}")
        else:
            self._say(f"{setup}\n{small.graph}\n{found.text}")

    def line(self, number: int) -> str:
        """One line of progress."""
        rate = self.graphs / max(1e-9, self.seconds)
        covered = f"{len(self.ops)} of {len(labels())} ops, {len(self.kernels)} of {len(KERNELS)} kernels"
        return f"batch {number}: {self.graphs} graphs, {rate:.1f} per second, {covered}, {sum(self.refused.values())} refused, {len(self.findings)} findings"

    def report(self) -> str:
        """Counts per op and kernel, refusals by reason."""
        rows = [f"{n} {name}" for name, n in self.ops.most_common()]
        kernels = [f"{n} {name}" for name, n in self.kernels.most_common()]
        reasons = [f"  {n} refused: {name}" for name, n in self.refused.most_common()]
        return "\n".join(["ops: " + ", ".join(rows), "kernels: " + ", ".join(kernels), *reasons, self.line(self.seed)])

    def _say(self, text: str) -> None:
        if self.out is not None:
            print(text, file=self.out, flush=True)


def narrowed(case: Case, finding: Finding, setup: Setup) -> Setup:
    """The simplest setup in which the case fails alike: fewer passes off, one thread, one kernel."""
    kernels = [finding.kind.split()[1]] if finding.kind.startswith("kernel ") else []
    for changes in ({"off": frozenset()}, {"strict": False}, {"threads": 1, "cores": 1}, *({"kernel": k} for k in kernels)):
        other = replace(setup, **changes)  # type: ignore[arg-type]
        if other != setup and fails_alike(case, finding, other):
            setup = other
    if finding.kind == "engine":
        for name in (k.name for k in KERNELS):
            other = replace(setup, kernel=name)
            if fails_alike(case, finding, other):
                return other
    return setup


def fails_alike(case: Case, finding: Finding, setup: Setup) -> bool:
    """Whether a case has a finding of the same kind."""
    kind = finding.kind
    found = examine([case], setup).findings
    if kind in ("lower", "pass", "build"):
        return any(f.kind == kind and _place(f) == _place(finding) for f in found)
    return any(f.kind == kind for f in found)


def _place(finding: Finding) -> str:
    """The error's class and source line."""
    return finding.text.split(":")[0] + finding.text.rsplit("(", 1)[-1]
