"""A child process that compiles Triton texts: ``python -m strop.codegen.triton_worker JOBS.json FOLDER``."""

from __future__ import annotations

import json
import linecache
import sys
from pathlib import Path
from typing import Any

from strop.codegen.triton import ALIGNED, write_result


def function_of(text: str, name: str) -> Any:
    """The ``triton.jit`` function that a module text defines."""
    file = f"<{name}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    space: dict[str, Any] = {"__name__": name}
    exec(compile(text, file, "exec"), space)
    return space[name]


def compiled(row: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """(facts, code) of a job; facts with ``error`` where there is no code."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    parameters = dict(row["parameters"])
    attributes = {(k,): [["tt.divisibility", ALIGNED]] for k, aligned in enumerate(row["aligned"]) if aligned}
    try:
        source = ASTSource(function_of(row["text"], row["function"]), signature=parameters, constexprs={}, attrs=attributes)
        options = {"num_warps": row["warps"], "num_stages": row["stages"], **({"maxnreg": row["registers"]} if row["registers"] else {})}
        result = triton.compile(source, target=GPUTarget("cuda", row["capability"], 32), options=options)
    except Exception as error:  # whatever the compiler raises is the candidate's failure, not ours
        return {"error": f"{type(error).__name__}: {error}"[:4000]}, b""
    facts = result.metadata
    if facts.global_scratch_size or facts.num_ctas != 1:
        return {"error": "it needs scratch memory or a cluster"}, b""
    return {"function": facts.name, "shared": facts.shared, "warps": facts.num_warps}, result.asm["cubin"]


def main(jobs: Path, folder: Path) -> None:
    """Compiles every job and keeps the results in a folder."""
    for row in json.loads(jobs.read_text(encoding="utf-8")):
        write_result(folder, row["key"], *compiled(row))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
