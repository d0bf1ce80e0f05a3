"""The repository polices its own structure: layers, cycles, sizes, tables. Reads source text; imports little of Strop."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
PACKAGE = SRC / "strop"

#: A module imports only what stands in an earlier group, or in its own folder.
GROUPS = (
    ("errors", "version", "knobs", "trace", "files"),
    ("ir",),
    ("ops", "target"),
    ("frontend", "optimize", "quantize"),
    ("kernels",),
    ("lower", "codegen", "export"),
    ("tune",),
    ("engine",),
    ("custom",),
    ("compat", "cli"),
)
#: What stands outside the order: (folder, every Strop module it may import, every folder that may import it).
RUNTIME_SEES = {
    "strop.errors", "strop.ir.dtype", "strop.engine.format", "strop.engine.plan", "strop.engine.dims", "strop.engine.checksum", "strop.engine.cubins", "strop.engine.parts",
    "strop.engine.library_calls",
}  # fmt: skip
RUNTIME_SEEN_BY = {"engine", "codegen"}
DEMO_DATA_SEES = {"strop.errors"}
DEMO_DATA_SEEN_BY = {"cli"}
#: What a process that only runs engines imports of the engine folder, and what these may import.
FORMAT_FILES = ("format", "plan", "dims", "computed", "checksum", "cubins", "parts", "library_calls")
#: Files that import modules by name at run time, so that a process without the compiler can load engines.
LAZY_FILES = {
    "__init__.py", "quantize/__init__.py", "compat/shims.py", "compat/tflite/__init__.py", "compat/tflite/source.py", "cli/main.py", "cli/source.py", "cli/dump.py",
    "frontend/table.py",
}  # fmt: skip

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 80
MAX_DRIVER_LINES = 150
MAX_HARD_SWISH_FILES = 9


# ---- reading the tree


@cache
def python_files() -> tuple[Path, ...]:
    return tuple(sorted(PACKAGE.rglob("*.py")))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def module_name(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    return {module_name(path): path for path in python_files()}


def short(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, also of those inside functions and for type checkers; ``from package import module``
    counts as the module."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield node.lineno, full if full in modules() else base


def own_imports(path: Path) -> Iterator[tuple[int, str]]:
    return ((line, name) for line, name in imports(path) if name.split(".")[0] == "strop")


def folder(name: str) -> str:
    """``ir`` for ``strop.ir.graph``, ``errors`` for ``strop.errors``, empty for ``strop``."""
    return [*name.split("."), ""][1]


RANK = {name: rank for rank, group in enumerate(GROUPS) for name in group}


def check(problems: list[str]) -> None:
    assert not problems, "\n" + "\n".join(problems)


# ---- layers


def test_every_module_has_a_place() -> None:
    known = set(RANK) | {"runtime", "demo_data", ""}
    check([f"{short(p)}: folder {folder(n)} is in no group" for n, p in modules().items() if folder(n) not in known])


def layer_problem(importer: str, imported: str) -> str | None:
    """Why a module may not import another, or None."""
    here, there = folder(importer), folder(imported)
    if there == "":
        return "nothing inside Strop imports the public package"
    if here == "":  # the public package names what it offers
        return None if imported.startswith(("strop.frontend.network", "strop.quantize")) or there in ("custom", "engine", "errors", "target", "version") else "not offered to users"
    if here == "runtime":
        allowed = there == "runtime" or imported in RUNTIME_SEES
        return None if allowed else "the runtime sees errors, dtypes and the format's constants"
    if here == "demo_data":
        return None if imported in DEMO_DATA_SEES else "the demonstration's data are no part of the compiler"
    if there == "runtime":
        if here == "codegen" and imported == "strop.runtime.sources":
            return None
        if here == "tune" and imported in ("strop.runtime.gpu_driver", "strop.runtime.gpu_libraries", "strop.runtime.gpu_library_files"):
            return None
        return None if here in ("engine", "custom") else "only the engine and custom layers use the runtime; tuning knows the GPU driver and its libraries, codegen knows where its sources are"
    if there == "demo_data":
        return None if here in DEMO_DATA_SEEN_BY else "only the command line uses the demonstration's data"
    if here == there or RANK[there] < RANK[here]:
        return None
    if RANK[there] == RANK[here] == 0:
        return None if GROUPS[0].index(there) < GROUPS[0].index(here) else "the order is " + ", ".join(GROUPS[0])
    return f"{there} does not stand before {here}"


def test_layer_rule() -> None:
    found = []
    for name, path in modules().items():
        for line, imported in own_imports(path):
            problem = layer_problem(name, imported)
            if problem is not None:
                found.append(f"{short(path)}:{line} imports {imported}: {problem}")
    check(found)


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("strop.ir.graph", "strop.errors", True),
        ("strop.ir.graph", "strop.ops.conv", False),
        ("strop.ops.conv", "strop.target.base", False),
        ("strop.optimize.fold_pad", "strop.frontend.onnx.reader", False),
        ("strop.knobs", "strop.trace", False),
        ("strop.trace", "strop.knobs", True),
        ("strop.codegen.toolchain", "strop.runtime.sources", True),
        ("strop.codegen.toolchain", "strop.runtime.session", False),
        ("strop.runtime.session", "strop.engine.format", True),
        ("strop.runtime.session", "strop.engine.engine", False),
        ("strop.runtime.session", "strop.knobs", False),
        ("strop.cli.demo", "strop.demo_data", True),
        ("strop.engine.build", "strop.demo_data", False),
        ("strop.engine.build", "strop", False),
        ("strop", "strop.ir.graph", False),
        ("strop.custom", "strop.runtime.callbacks", True),
        ("strop.custom", "strop.ops.custom", True),
        ("strop.engine.build", "strop.custom", False),
        ("strop.cli.main", "strop.custom", True),
    ],
)
def test_the_layer_rule_tells_right_from_wrong(importer: str, imported: str, allowed: bool) -> None:
    assert (layer_problem(importer, imported) is None) == allowed


def test_format_files_import_little() -> None:
    allowed = {"strop.errors", "strop.ir.dtype", *(f"strop.engine.{name}" for name in FORMAT_FILES)}
    found = [
        f"engine/{name}.py:{line} imports {imported}"
        for name in FORMAT_FILES
        for line, imported in own_imports(PACKAGE / "engine" / f"{name}.py")
        if imported not in allowed
    ]
    check(found)


def test_no_import_cycles() -> None:
    graph = {
        name: sorted({i for _, i in own_imports(path) if i in modules() and i != name}) for name, path in modules().items()
    }
    check([" -> ".join(cycle) for cycle in cycles(graph)])


def cycles(graph: dict[str, list[str]]) -> list[list[str]]:
    """One cycle per module at which a depth-first walk meets itself."""
    done: set[str] = set()
    found: list[list[str]] = []

    def visit(name: str, trail: list[str]) -> None:
        if name in trail:
            found.append([*trail[trail.index(name) :], name])
        elif name not in done:
            for other in graph.get(name, []):
                visit(other, [*trail, name])
            done.add(name)

    for name in graph:
        visit(name, [])
    return found


def test_cycles_are_found() -> None:
    assert cycles({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}) == [["a", "b", "c", "a"]]
    assert cycles({"a": ["b", "c"], "b": ["c"], "c": []}) == []


# ---- imports


def test_imports_are_absolute_and_named() -> None:
    found = []
    for path in python_files():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ImportFrom) and node.level:
                found.append(f"{short(path)}:{node.lineno}: a relative import")
            if isinstance(node, ast.ImportFrom) and any(a.name == "*" for a in node.names):
                found.append(f"{short(path)}:{node.lineno}: a star import")
            if isinstance(node, ast.Import) and any(a.name == "strop" for a in node.names):
                found.append(f"{short(path)}:{node.lineno}: import strop inside strop")
    check(found)


def required_packages() -> set[str]:
    """Import names of what pyproject.toml requires always."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^dependencies = \[(.*?)^\]", text, re.M | re.S)
    assert block is not None
    return {name.replace("-", "_") for name in re.findall(r'"([A-Za-z0-9_.-]+?)[<>=~!;\["]', block[1])}


def test_requirements_are_read_from_pyproject() -> None:
    assert {"numpy", "onnx", "typer"} <= required_packages()


def test_imports_inside_functions_are_of_optional_packages() -> None:
    always = required_packages() | set(sys.stdlib_module_names) | {"strop"}
    found = []
    for path in python_files():
        for function in ast.walk(tree_of(path)):
            if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                continue
            for node in ast.walk(function):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                found += [f"{short(path)}:{node.lineno}: {n}" for n in names if n.split(".")[0] in always]  # type: ignore[attr-defined]
    check(sorted(set(found)))


def test_modules_are_imported_by_name_in_few_places() -> None:
    found = {
        short(path)
        for path in python_files()
        for node in ast.walk(tree_of(path))
        if (isinstance(node, ast.Name) and node.id in ("import_module", "__import__"))
        or (isinstance(node, ast.Attribute) and node.attr == "import_module")
    }
    assert found <= LAZY_FILES


def test_only_knobs_reads_the_environment() -> None:
    found = []
    for path in python_files():
        for node in ast.walk(tree_of(path)):
            reads = isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb")
            reads |= isinstance(node, ast.ImportFrom) and any(a.name in ("environ", "getenv") for a in node.names)
            if reads and short(path) != "knobs.py":
                found.append(f"{short(path)}:{node.lineno}")  # type: ignore[attr-defined]
    check(found)


# ---- sizes


def test_files_are_short() -> None:
    sources = [p for p in PACKAGE.rglob("*") if p.suffix in (".py", ".c", ".h", ".hpp")]
    counts = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in sources}
    check([f"{short(p)}: {count} lines, at most {MAX_FILE_LINES}" for p, count in counts.items() if count >= MAX_FILE_LINES])


def test_functions_are_short() -> None:
    found = []
    for path in python_files():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines >= MAX_FUNCTION_LINES:
                    found.append(f"{short(path)}:{node.lineno} {node.name}: {lines} lines, at most {MAX_FUNCTION_LINES}")
    check(found)


def test_the_driver_fits_on_a_screen_or_two() -> None:
    assert len((PACKAGE / "engine" / "build.py").read_text(encoding="utf-8").splitlines()) <= MAX_DRIVER_LINES


# ---- tables


def assigns(path: Path, name: str) -> bool:
    """Whether a module assigns a name at its top."""
    targets: list[ast.expr] = []
    for node in tree_of(path).body:
        targets += node.targets if isinstance(node, ast.Assign) else []
        targets += [node.target] if isinstance(node, ast.AnnAssign) else []
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


def passes() -> list[Path]:
    """Files of ``optimize`` that hold a pass: they name themselves."""
    return [p for p in sorted((PACKAGE / "optimize").glob("*.py")) if assigns(p, "NAME")]


def test_passes_are_in_the_pipeline_documented_and_tested() -> None:
    listed = {imported.split(".")[-1] for _, imported in own_imports(PACKAGE / "optimize" / "pipeline.py")}
    found = []
    assert passes()
    for path in passes():
        doc = ast.get_docstring(tree_of(path)) or ""
        missing = [word for word in ("Before", "After", "Unless") if not re.search(rf"^\s*(Before -> )?{word}\b", doc, re.M)]
        if missing:
            found.append(f"{short(path)}: docstring without {', '.join(missing)}")
        if path.stem not in listed:
            found.append(f"{short(path)}: not in optimize/pipeline.py")
        if not (ROOT / "tests" / "optimize" / f"test_{path.stem}.py").exists():
            found.append(f"{short(path)}: no tests/optimize/test_{path.stem}.py")
    check(found)


def test_pass_names_are_file_names() -> None:
    found = []
    for path in passes():
        name = getattr(import_module(module_name(path)), "NAME")  # noqa: B009
        if name != path.stem:
            found.append(f"{short(path)}: NAME is {name}")
    check(found)


def kernel_files() -> list[Path]:
    """Files under ``kernels`` that hold a kernel."""
    return [p for p in sorted((PACKAGE / "kernels").rglob("*.py")) if assigns(p, "KERNEL")]


def test_kernels_are_in_the_table_and_named_after_their_file() -> None:
    table = import_module("strop.kernels.table")
    kernels = (*table.KERNELS, *table.GPU_KERNELS, *table.GPU_LIBRARIES)
    found = []
    assert kernel_files()
    for path in kernel_files():
        kernel = import_module(module_name(path)).KERNEL
        if not any(kernel is other for other in kernels):
            found.append(f"{short(path)}: its KERNEL is not in kernels/table.py")
        if not kernel.name.startswith(path.stem):
            found.append(f"{short(path)}: its kernel is called {kernel.name}")
    names = [kernel.name for kernel in kernels]
    found += [f"two kernels are called {name}" for name in set(names) if names.count(name) > 1]
    check(found)


def test_ops_are_registered_whole() -> None:
    """Every op class says what it infers and means, and gives problems to test it on."""
    families = {module_name(p).split(".")[-1] for p in (PACKAGE / "ops").glob("*.py") if "(Op)" in p.read_text("utf-8")}
    package = import_module("strop.ops")
    found = [f"strop.ops.{name} is not imported by strop.ops" for name in families - {"base"} if not hasattr(package, name)]
    op_module = import_module("strop.ir.op")
    registry: dict[str, type] = op_module.REGISTRY
    assert len(registry) > 30
    for name, op in registry.items():
        if not op.__module__.startswith("strop."):
            continue
        for method in ("infer", "reference", "samples"):
            if getattr(op, method).__qualname__.startswith("Op."):
                found.append(f"{op.__module__}: {name} has no {method}")
    check(found)


def test_import_functions_are_found() -> None:
    """Every file of import functions is imported where its frontend starts."""
    for folder_, start in (("onnx", "reader.py"), ("torch", "__init__.py"), ("tflite", "__init__.py")):
        package = PACKAGE / "frontend" / folder_
        imported = {name.split(".")[-1] for _, name in own_imports(package / start)}
        files = {path.stem for path in package.glob("ops_*.py")}
        assert files and files <= imported


def test_an_elementwise_op_lives_in_few_files() -> None:
    """HardSwish stands for all of them: its row, a row in each frontend, its recognizer and the list that names that, and those of
    TensorFlow Lite's integer kernels."""
    files = [short(p) for p in python_files() if re.search(r"hard_?swish", p.read_text(encoding="utf-8"), re.I)]
    assert 2 <= len(files) <= MAX_HARD_SWISH_FILES, files


def test_stages_are_named_after_folders() -> None:
    stages = import_module("strop.engine.stages").STAGES
    check([f"stage {stage} has no folder" for stage in stages if not (PACKAGE / stage / "__init__.py").exists()])
