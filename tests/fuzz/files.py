"""``python -m tests.fuzz.files --mutations 20000``: hostile models, engines, records and graph texts never crash, hang or allocate without bound.

Each mutation is decided by its number. Children with a limited address space work through ranges of numbers and say which they
are at; an exception other than a StropError, a MemoryError, an end of the process or too long a time is a defect.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import resource
import secrets
import shutil
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import onnx

from strop.engine.describe import describe, memory_of
from strop.engine.engine import Engine
from strop.engine.format import EngineFile
from strop.errors import StropError
from strop.frontend.keras.reader import read as read_keras
from strop.frontend.onnx import read_onnx
from strop.frontend.onnx.reader import survey
from strop.frontend.saved_model.messages import parse
from strop.frontend.saved_model.reader import read as read_saved_model
from strop.frontend.tflite.reader import read as read_tflite
from strop.ir import text
from strop.ir.graph import Graph
from strop.ir.shape import is_static
from strop.ir.verify import verify
from strop.lower.pipeline import lower
from strop.optimize.pipeline import optimize
from strop.runtime.session import Session
from strop.target.detect import host
from strop.trace import Trace
from strop.tune.records import HEADER, Records
from tests import dynamic_nets, tiny_net
from tests.frontend.saved_model_files import Saved
from tests.frontend.test_keras import CASES as KERAS
from tests.frontend.test_saved_model import MODELS as SAVED_MODELS
from tests.frontend.test_saved_model_ops import CASES as TENSORFLOW
from tests.frontend.tflite_cases import CASES
from tests.frontend.tflite_nets import every_net
from tests.fuzz import mutate

#: Seconds that one mutation may take, and bytes that a child may allocate beside what it has.
PATIENCE, ROOM = 12.0, 1 << 30
_DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
KINDS = ("onnx", "onnx", "onnx", "tflite", "saved_model", "keras", "engine", "text", "records")


@dataclass
class Report:
    """Attributes:
    done: mutations per kind.
    refused: how many were refused by a StropError.
    accepted: how many went through.
    defects: what else happened, with the numbers of the mutations.
    """

    done: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    accepted: int = 0
    defects: dict[str, list[int]] = field(default_factory=dict)

    def defect(self, what: str, number: int) -> None:
        """Notes one."""
        self.defects.setdefault(what, []).append(number)


# ---- what is mutated


@cache
def _models() -> list[bytes]:
    """Small models that between them have every part of the format: onnx's own tests, and nets with free sizes, loops and weights."""
    paths = sorted(p for folder in ("node", "simple", "light") for p in (_DATA / folder).glob("*/model.onnx") if p.stat().st_size < 20_000)
    made = [dynamic_nets.conv_net(), dynamic_nets.transformer(), dynamic_nets.sequences(), tiny_net.model("n")]
    return [p.read_bytes() for p in paths[::3]] + [m.SerializeToString() for m in made] * 8


@cache
def _engines() -> list[bytes]:
    """An engine of fixed and one of free sizes."""
    import strop

    engines = [
        strop.build(tiny_net.model(), level=0, threads=2),
        strop.build(dynamic_nets.sequences(), level=0, threads=1, shapes=SEQUENCES),
    ]
    return [Path(e.path).read_bytes() for e in engines]


#: Ranges of the free sizes of ``dynamic_nets.sequences``.
SEQUENCES: dict[str, Any] = {"x": "batch:1..3,seq:3..40(12),8"}


@cache
def _texts() -> list[tuple[str, dict[str, Any]]]:
    """Texts of graphs, with their constants."""
    found = []
    for data in _models()[::7]:
        try:
            graph = read_onnx(data)
            found.append((text.show(graph), text.by_digest(graph)))
        except StropError:
            continue
    return found


_RECORDS = HEADER + "\n" + "".join(
    f"{k:016x} AMD-EPYC-25.17.1/32K/1024K/32768K {k + 1} l{2 + k % 2} 0123abcd {result} conv_direct(mr={k}, nv=2)\n"
    for k, result in enumerate((1234, "wrong", 5, "hung", 999999, "crashed"))
)  # fmt: skip


# ---- what is done with it


def _onnx(rng: Random, folder: Path) -> None:
    models = _models()
    data = rng.choice(models)
    kind = rng.random()
    if kind < 0.6:
        data = mutate.mutated_model(data, rng)
    elif kind < 0.95:
        data = mutate.mutated_bytes(data, rng)
    else:
        data = mutate.spliced(data, rng.choice(models), rng)
    source: bytes | Path = data
    if rng.random() < 0.1:
        source = folder / "model.onnx"
        source.write_bytes(data)
    if rng.random() < 0.1:
        survey(source)
        return
    graph = optimize(read_onnx(source), Trace())
    verify(graph, "imported")
    lower(graph, host().with_cores(1), Trace())


@cache
def _flat_models() -> list[bytes]:
    """Small TFLite files: nets with subgraphs, variables, sparse and quantized weights, and single operators."""
    return every_net() * 3 + [case.file for case in list(CASES.values())[::4]]


def _tflite(rng: Random, folder: Path) -> None:
    data = mutate.mutated_bytes(rng.choice(_flat_models()), rng)
    _lowered(read_tflite(b"\0\0\0\0TFL3" if len(data) < 8 else data))


def _lowered(graph: Graph) -> None:
    """What a build does with a graph before it measures, if its sizes are known."""
    graph = optimize(graph, Trace())
    verify(graph, "imported")
    if all(is_static(value.shape) for value in graph.inputs):
        lower(graph, host().with_cores(1), Trace())


@cache
def _saved_models() -> list[dict[str, bytes]]:
    """Files of small SavedModels and frozen graphs: of TensorFlow's own, and one whose every field is needed."""
    found: list[dict[str, bytes]] = []
    with tempfile.TemporaryDirectory() as folder:
        saved = Saved().write(Path(folder))
        own = {str(p.relative_to(saved)): p.read_bytes() for p in sorted(saved.rglob("*")) if p.is_file()}
    graphs = [{"frozen.pb": parts["graph"].tobytes()} for parts in list(TENSORFLOW.values())[::2]]
    models: dict[str, dict[str, bytes]] = {}
    with tarfile.open(SAVED_MODELS) as archive:
        for member in archive:
            name, _, part = member.name.partition("/")
            file = archive.extractfile(member)
            if file is not None and not part.endswith(".npz") and name in ("module", "lenet"):
                models.setdefault(name, {})[part] = file.read()
    found += [own] * 40 + graphs + list(models.values()) * 4
    return found


def _saved_model(rng: Random, folder: Path) -> None:
    parts = dict(rng.choice(_saved_models()))
    place = folder / f"model{rng.randrange(4)}"
    for name, data in parts.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    name = rng.choice(list(parts))
    if name.endswith(".pb") and rng.random() < 0.8:
        message = parse("Graph" if name == "frozen.pb" else "SavedModel", parts[name], name)
        data = mutate.mutated_message(message, rng)
    else:
        data = mutate.mutated_bytes(parts[name], rng)
    (place / name).write_bytes(data)
    try:
        _lowered(read_saved_model(place / "frozen.pb" if "frozen.pb" in parts else place))
    finally:
        shutil.rmtree(place)


@cache
def _keras_models() -> list[dict[str, bytes]]:
    """Parts of small Keras files: the members of ``.keras`` archives, or a whole ``.h5`` file."""
    found: list[dict[str, bytes]] = []
    for files in list(KERAS.values())[::3]:
        if "net.h5" in files:
            found.append({"net.h5": files["net.h5"]})
        if "net.keras" in files:
            with zipfile.ZipFile(io.BytesIO(files["net.keras"])) as archive:
                found.append({name: archive.read(name) for name in archive.namelist()})
    return found


def _keras(rng: Random, folder: Path) -> None:
    """The configuration is mutated more often than the weights, whose format is left to the HDF5 library."""
    parts = dict(rng.choice(_keras_models()))
    name = "net.h5" if "net.h5" in parts else "config.json" if rng.random() < 0.8 else rng.choice(list(parts))
    data = parts[name]
    if name == "config.json":
        data = mutate.mutated_json(data, rng)
    elif name == "net.h5":
        start = data.find(b'{"class_name"')
        end = data.find(b"\0", start)
        config = mutate.mutated_json(data[start:end], rng)[: end - start].ljust(end - start)
        data = data[:start] + config + data[end:]
    parts[name] = data if name in ("config.json", "net.h5") else mutate.mutated_bytes(data, rng)
    path = folder / ("net.h5" if "net.h5" in parts else "net.keras")
    if "net.h5" in parts:
        path.write_bytes(parts["net.h5"])
    else:
        with zipfile.ZipFile(path, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
            for key, content in parts.items():
                archive.writestr(key, content)
    if rng.random() < 0.1:
        path.write_bytes(mutate.mutated_bytes(path.read_bytes(), rng))
    _lowered(read_keras(path))


def _engine(rng: Random, folder: Path) -> None:
    data = mutate.mutated_engine(rng.choice(_engines()), rng)
    path = folder / "engine.strop"
    path.write_bytes(data)
    problems = []
    for look in (_inspect, _load_file, _load_bytes):
        try:
            look(path, data)
        except StropError as error:
            problems.append(error)
    if problems:
        raise problems[0]


def _inspect(path: Path, data: bytes) -> None:
    for entry in EngineFile(data).sections:
        assert entry.size >= 0
    engine = Engine(path)
    describe(engine)
    memory_of(engine)
    text.parse(engine.graph_text, {})


def _load_file(path: Path, data: bytes) -> None:
    session = Session(path, threads=1)
    context = session.context(threads=2)
    assert session.memory and session.steps is not None and context.memory is not None
    assert isinstance(session.manifest, dict) and isinstance(session.graph_text, str)
    session.close()


def _load_bytes(path: Path, data: bytes) -> None:
    with Session(data) as session:
        session.context(threads=1)


def _text(rng: Random, folder: Path) -> None:
    before, constants = rng.choice(_texts())
    graph = text.parse(mutate.mutated_text(before, rng), constants)
    verify(graph, "imported")
    text.show(graph)


def _records(rng: Random, folder: Path) -> None:
    path = folder / "records.txt"
    mutated = mutate.mutated_text(_RECORDS, rng).encode("utf-8", "surrogatepass")
    path.write_bytes(mutated if rng.random() < 0.5 else mutate.mutated_bytes(mutated, rng))
    records = Records.read(path, lambda note: None)
    again = Records.parse(records.text(), lambda line: None)
    assert again.results == records.results, "records are read back otherwise than they were written"


_ACTIONS: dict[str, Callable[[Random, Path], None]] = {
    "onnx": _onnx, "tflite": _tflite, "saved_model": _saved_model, "keras": _keras, "engine": _engine, "text": _text, "records": _records,
}  # fmt: skip


def kind_of(number: int, kinds: Sequence[str]) -> str:
    """What a number mutates."""
    return kinds[number % len(kinds)]


def one(number: int, kinds: Sequence[str], folder: Path) -> str:
    """``accepted``, ``refused``, or what went wrong."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _ACTIONS[kind_of(number, kinds)](Random(number), folder)
        return "accepted"
    except StropError as error:
        inner = error.__cause__
        return f"VerifyError: {str(error).splitlines()[0]}" if type(error).__name__ == "VerifyError" and inner is not None else "refused"
    except BaseException as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "strop" in f.filename] or traceback.extract_tb(error.__traceback__)
        last = frames[-1]
        return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}: {str(error)[:160]}"


# ---- children


def _child(there: Any, numbers: Sequence[int], kinds: Sequence[str]) -> None:
    sys.setrecursionlimit(1000)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, size + ROOM))
    with tempfile.TemporaryDirectory() as folder:
        for number in numbers:
            there.send((number, None))
            there.send((number, one(number, kinds, Path(folder))))
    there.send(None)


def attack(first: int, count: int, kinds: Sequence[str] = KINDS, say: Callable[[str], None] = lambda line: None, chunk: int = 500) -> Report:
    """Works through ``count`` mutations from number ``first`` on."""
    report = Report()
    _models(), _texts()
    for kind, prepare in (("engine", _engines), ("saved_model", _saved_models), ("keras", _keras_models)):
        if kind in kinds:
            prepare()
    fork = multiprocessing.get_context("fork")
    left = list(range(first, first + count))
    start = time.monotonic()
    while left:
        here, there = fork.Pipe(False)
        child = fork.Process(target=_child, args=(there, left[:chunk], kinds), daemon=True)
        child.start()
        there.close()
        done, at = _listen(here, child, kinds, report)
        child.kill()
        child.join()
        here.close()
        left = left[done + (at is not None) :]
        say(f"{count - len(left)} of {count} in {time.monotonic() - start:.0f} s: {report.refused} refused, {report.accepted} accepted, "
            f"{sum(map(len, report.defects.values()))} defects of {len(report.defects)} kinds")  # fmt: skip
    return report


def _listen(here: Any, child: Any, kinds: Sequence[str], report: Report) -> tuple[int, int | None]:
    """(mutations that were answered, the one that ended the child or None)"""
    done, at = 0, None
    while True:
        try:
            message = here.recv() if here.poll(PATIENCE) else ("hung",)
        except EOFError:
            message = ("ended",)
        if message is None:
            return done, None
        if len(message) == 1:
            child.join(0.2)
            what = f"no answer within {PATIENCE} s" if message[0] == "hung" else f"the process ended with {child.exitcode}"
            report.defect(f"{kind_of(at or 0, kinds)}: {what} (mutation {at})", at or 0)
            return done, at
        number, verdict = message
        at = number if verdict is None else None
        if verdict is not None:
            done += 1
            report.done[kind_of(number, kinds)] += 1
            if verdict in ("refused", "accepted"):
                setattr(report, verdict, getattr(report, verdict) + 1)
            else:
                report.defect(f"{kind_of(number, kinds)}: {verdict}", number)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.files", description=__doc__)
    parser.add_argument("--mutations", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=None, help="number of the first mutation; a fresh one by default")
    parser.add_argument("--kinds", default=",".join(KINDS), help="what is mutated, by commas")
    options = parser.parse_args()
    first = options.seed if options.seed is not None else secrets.randbelow(1 << 31)
    print(f"first mutation {first}", flush=True)
    report = attack(first, options.mutations, options.kinds.split(","), lambda line: print(line, flush=True))
    print(dict(report.done))
    for what, numbers in sorted(report.defects.items(), key=lambda item: -len(item[1])):
        print(f"DEFECT {what}\n  {len(numbers)} times, mutations {numbers[:4]}")
    return 1 if report.defects else 0


if __name__ == "__main__":
    sys.exit(main())
