"""The Python face of the runtime: running, sharing, reporting."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from strop.engine.format import Section, SectionKind, write_engine
from strop.errors import OptionError, RuntimeFailure
from strop.ir import dtype as dt
from strop.runtime.context import Context, MemoryFigures, StepInfo, TensorInfo
from strop.runtime.session import Session
from tests.runtime import synthetic as syn

pytestmark = syn.needs_linux


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return syn.write(tmp_path_factory.mktemp("engine") / "arithmetic.strop")


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    return {name: rng.standard_normal(syn.SHAPE, np.float32) for name in "ab"}


def check(outputs: dict[str, np.ndarray], arrays: dict[str, np.ndarray]) -> None:
    scaled, total = syn.arithmetic(arrays["a"], arrays["b"])
    np.testing.assert_array_equal(outputs["sum"], scaled)
    np.testing.assert_allclose(outputs["total"], total, rtol=1e-12)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_runs_by_name_and_by_position(path: Path, arrays: dict[str, np.ndarray], threads: int) -> None:
    with Session(path, threads=threads) as session:
        check(session.run(arrays), arrays)
        by_position = session(arrays["a"], arrays["b"])
        assert isinstance(by_position, tuple)
        check(dict(zip(["sum", "total"], by_position, strict=True)), arrays)


def test_one_output_is_one_array(tmp_path: Path) -> None:
    session = Session(syn.write(tmp_path / "e.strop", syn.rotation_plan([1])), threads=1)
    x = np.arange(syn.N, dtype=np.float32).reshape(syn.SHAPE)
    y = session(x)
    assert isinstance(y, np.ndarray)
    np.testing.assert_array_equal(y.ravel(), np.roll(x.ravel(), -1) + 1)


@pytest.mark.parametrize("aligned", [True, False])
def test_loads_from_memory(path: Path, arrays: dict[str, np.ndarray], aligned: bool) -> None:
    data = path.read_bytes()
    room = np.empty(len(data) + 128, np.uint8)
    start = -room.ctypes.data % 64 + (0 if aligned else 8)
    view = room[start : start + len(data)]
    view[:] = np.frombuffer(data, np.uint8)
    session = Session(view.data, threads=1)
    del room, view
    gc.collect()
    check(session.run(arrays), arrays)
    assert session.where == "(memory)"


def test_describes_the_engine(path: Path) -> None:
    session = Session(path, threads=2)
    assert session.inputs == (
        TensorInfo("a", dt.f32, syn.SHAPE),
        TensorInfo("b", dt.f32, syn.SHAPE),
    )
    assert session.outputs[1] == TensorInfo("total", dt.f64, ())
    assert session.steps[0] == StepInfo("add", syn.ADD, syn.N, 16)
    assert [step.name for step in session.steps] == ["add", "scale", "total"]
    assert session.manifest == {"name": "synthetic"}
    assert session.graph_text == "graph (été)"
    assert session.target == syn.MACHINE and session.isa == "portable"
    assert session.memory == MemoryFigures(4 * 32, syn.BYTES, 4 * syn.COLUMNS)
    memory = session.context().memory
    assert memory.weights == 4 * 32
    assert memory.arena >= syn.BYTES and memory.scratch >= 2 * 4 * syn.COLUMNS


def test_threads_share_the_tasks(tmp_path: Path) -> None:
    session = Session(syn.write(tmp_path / "e.strop", syn.who_plan(10, 3)))
    for threads, expected in ((1, [0] * 10), (2, [0] * 6 + [1] * 4), (4, [0] * 3 + [1] * 3 + [2] * 3 + [3])):
        pairs = session.context(threads=threads)()
        assert pairs[:, 0].tolist() == expected
        assert set(pairs[:, 1].tolist()) == {threads}
    assert Session(session.where).context().threads == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_steps_wait_for_each_other(tmp_path: Path, threads: int) -> None:
    # Shared steps, steps of one thread, and every order of the two.
    rng = np.random.default_rng(threads)
    grains = rng.choice([1, 7, 300, syn.N], 301).tolist()
    session = Session(syn.write(tmp_path / "e.strop", syn.rotation_plan(grains)), threads=threads)
    x = rng.integers(0, 1000, syn.SHAPE).astype(np.float32)
    expected = np.roll(x.ravel(), -len(grains)) + len(grains)
    for _ in range(20):
        np.testing.assert_array_equal(session(x).ravel(), expected)


def test_inputs_and_outputs_are_used_in_place(path: Path, arrays: dict[str, np.ndarray]) -> None:
    session = Session(path, threads=1)
    frozen = {name: array.copy() for name, array in arrays.items()}
    for array in frozen.values():
        array.flags.writeable = False
    out = {"sum": np.empty(syn.SHAPE, np.float32)}
    for _ in range(3):
        outputs = session.run(frozen, out=out)
        assert outputs["sum"] is out["sum"]
        check(outputs, arrays)
    arrays["a"][:] = 1
    frozen["a"] = arrays["a"]
    check(session.run(frozen, out=out), arrays)
    arrays["a"][:] = 2
    check(session.run(frozen, out=out), arrays)


def test_outputs_are_new_every_time(path: Path, arrays: dict[str, np.ndarray]) -> None:
    session = Session(path, threads=1)
    first = session.run(arrays)
    kept = first["sum"].copy()
    session.run({"a": arrays["b"], "b": arrays["b"]})
    np.testing.assert_array_equal(first["sum"], kept)


def test_awkward_inputs_are_copied(path: Path, arrays: dict[str, np.ndarray]) -> None:
    session = Session(path, threads=1)
    wide = np.repeat(arrays["a"], 2, axis=1)
    raw = np.empty(4 * syn.N + 1, np.uint8)
    unaligned = raw[1:].view(np.float32).reshape(syn.SHAPE)
    unaligned[:] = arrays["b"]
    for a, b in ((wide[:, ::2], unaligned), (np.asfortranarray(arrays["a"]), arrays["b"])):
        check(session.run({"a": a, "b": b}), arrays)


def test_an_address_is_not_remembered_beyond_its_array(path: Path, arrays: dict[str, np.ndarray]) -> None:
    session = Session(path, threads=1)
    for i in range(50):
        a = np.full(syn.SHAPE, i, np.float32)
        check(session.run({"a": a, "b": arrays["b"]}), {"a": a, "b": arrays["b"]})
        with pytest.raises(ValueError, match="resize"):
            a.resize((2, *syn.SHAPE))
        del a


def test_engines_of_a_process_share_one_runtime_and_pool(tmp_path: Path) -> None:
    script = """
import os, sys, numpy as np
from strop.runtime.session import Session
before = len(os.listdir("/proc/self/task"))
sessions = [Session(path, threads=3) for path in sys.argv[1:]]
a = np.ones((16, 64), np.float32)
for session in sessions:
    assert session.run({"a": a, "b": a})["sum"][0, 0] == 1.0
maps = open("/proc/self/maps").read()
assert len({line.split()[4] for line in maps.splitlines() if "strop-runtime" in line}) == 1
assert len({line.split()[4] for line in maps.splitlines() if "strop-kernels" in line}) == 2
print(len(os.listdir("/proc/self/task")) - before)
"""
    paths = [syn.write(tmp_path / f"{i}.strop") for i in range(2)]
    assert syn.run_script(script, *paths) == "2\n"


def test_one_thread_starts_no_thread(path: Path) -> None:
    script = """
import os, sys, numpy as np
from strop.runtime.session import Session
before = len(os.listdir("/proc/self/task"))
a = np.ones((16, 64), np.float32)
Session(sys.argv[1], threads=1).run({"a": a, "b": a})
assert len(os.listdir("/proc/self/task")) == before
"""
    syn.run_script(script, path)


def test_many_loads_keep_their_kernels_apart(tmp_path: Path) -> None:
    # Libraries are loaded from descriptors whose numbers are the same every time.
    code = [{syn.MACHINE: syn.kernels(isa)} for isa in ("portable", "one", "two")]
    sessions = []
    for i in range(12):
        path = syn.write(tmp_path / f"{i}.strop", code=code[i % 3])
        sessions.append(Session(path, threads=1))
    assert [s.isa for s in sessions] == ["portable", "one", "two"] * 4


def test_contexts_run_concurrently(path: Path) -> None:
    sessions = [Session(path, threads=threads) for threads in (1, 2, 2)]
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            rng = np.random.default_rng(seed)
            for i in range(200):
                arrays = {name: rng.standard_normal(syn.SHAPE, np.float32) for name in "ab"}
                check(sessions[(seed + i) % 3].run(arrays), arrays)
        except BaseException as error:  # handed to the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures and not any(thread.is_alive() for thread in threads)


def test_runs_after_fork() -> None:
    script = """
import os, sys, tempfile, threading, numpy as np
from pathlib import Path
from strop.runtime.session import Session
from tests.runtime import synthetic as syn

with tempfile.TemporaryDirectory() as folder:
    session = Session(syn.write(Path(folder) / "e.strop", syn.who_plan(64)), threads=2)
x = session()
assert set(x[:, 1].tolist()) == {2}
stop = threading.Event()

def keep_busy():
    while not stop.is_set():
        session()

other = threading.Thread(target=keep_busy)
other.start()
for _ in range(20):  # with another thread in the middle of a run
    child = os.fork()
    if child == 0:
        seen = set()
        for _ in range(100):
            seen |= set(session()[:, 1].tolist())
        os._exit(0 if 2 in seen and len(os.listdir("/proc/self/task")) == 2 else 1)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
other.join()
child = os.fork()
if child == 0:
    grandchild = os.fork()
    if grandchild == 0:
        os._exit(0 if set(session()[:, 1].tolist()) == {2} else 1)
    os._exit(0 if os.waitpid(grandchild, 0)[1] == 0 else 1)
assert os.waitpid(child, 0)[1] == 0
assert set(session()[:, 1].tolist()) == {2}
"""
    syn.run_script(script)


def test_profile_times_every_step(path: Path, arrays: dict[str, np.ndarray]) -> None:
    for threads in (1, 2):
        times = Session(path, threads=threads).profile(arrays, runs=20)
        assert [time.name for time in times] == ["add", "scale", "total"]
        assert all(0 < time.nanoseconds < 10_000_000 for time in times)


def test_denormals_are_the_engines_choice(tmp_path: Path) -> None:
    x = np.full(syn.SHAPE, 1e-20, np.float32)
    assert (x * x)[0, 0] > 0
    for threads in (1, 2):
        for flush in (False, True):
            path = syn.write(tmp_path / "e.strop", syn.square_plan(flush))
            y = Session(path, threads=threads)(x)
            assert set((y > 0).ravel().tolist()) == {not flush}
            assert (x * x)[0, 0] > 0  # the caller's mode is as it was


@pytest.mark.skipif(syn.MACHINE != "x86_64", reason="levels of x86-64")
def test_the_best_supported_code_is_taken(tmp_path: Path) -> None:
    code = {
        "x86_64-v9": b"never looked at",
        "x86_64-v3+no_such_feature": b"never looked at",
        "x86_64": syn.kernels("sse2"),
        "x86_64-v3": syn.kernels("avx2"),
        "aarch64": b"never looked at",
    }
    session = Session(syn.write(tmp_path / "e.strop", code=code), threads=1)
    avx2 = "avx2" in Path("/proc/cpuinfo").read_text().split()
    assert (session.target, session.isa) == (("x86_64-v3", "avx2") if avx2 else ("x86_64", "sse2"))


def test_no_steps_and_empty_tensors(tmp_path: Path) -> None:
    empty = syn.Tensor("nothing", dt.f32, (0, 3))
    plan = syn.Plan((empty,), (empty,), (), 0, 0, syn.N_KERNELS)
    for threads in (1, 2):
        session = Session(syn.write(tmp_path / "e.strop", plan), threads=threads)
        assert session(np.empty((0, 3), np.float32)).shape == (0, 3)


def test_dtypes_numpy_lacks(tmp_path: Path) -> None:
    plan = syn.Plan(
        (syn.Tensor("x", dt.bf16, (syn.N,)),), (syn.Tensor("y", dt.bf16, (2,)),), (), 0, 0, syn.N_KERNELS
    )
    session = Session(syn.write(tmp_path / "e.strop", plan), threads=1)
    assert session(np.zeros(syn.N, dt.bf16.numpy)).dtype == dt.bf16.numpy


def test_large_arenas_are_touched_lazily(tmp_path: Path) -> None:
    plan = syn.Plan((), (), (syn.Step("nothing", syn.NOTHING, (), 1),), 1 << 40, 1 << 30, syn.N_KERNELS)
    context = Session(syn.write(tmp_path / "e.strop", plan)).context(threads=2)
    context()
    assert context.memory.arena == 1 << 40


def test_closed_and_busy_handles_are_refused(path: Path, arrays: dict[str, np.ndarray]) -> None:
    session = Session(path, threads=1)
    context = session.context()
    session.run(arrays)
    session.close()
    session.close()
    for use in (lambda: session.run(arrays), session.context, lambda: session.memory, lambda: session.manifest):
        with pytest.raises(RuntimeFailure, match="session is closed"):
            use()
    check(context.run(arrays), arrays)  # keeps what it needs of the engine
    context._lock.acquire()
    with pytest.raises(RuntimeFailure, match="in use by another thread"):
        context.run(arrays)
    context._lock.release()
    context.close()
    context.close()
    with pytest.raises(RuntimeFailure, match="context is closed"):
        context.run(arrays)


def test_handles_are_given_back(path: Path) -> None:
    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count(path.name)

    gc.collect()
    before = mapped()
    session = Session(path, threads=1)
    context: Context | None = session.context()
    assert mapped() > before
    del session
    gc.collect()
    assert mapped() > before
    context = None
    gc.collect()
    assert mapped() == before and context is None


@pytest.mark.parametrize("threads", [0, -1, 257, 1 << 40])
def test_impossible_thread_counts_are_refused(path: Path, threads: int) -> None:
    with pytest.raises(OptionError, match="threads"):
        Session(path, threads=threads)


def test_needs_neither_compiler_nor_path(path: Path) -> None:
    script = """
import sys
for name in ("ziglang", "onnx", "typer", "rich"):
    sys.modules[name] = None
import numpy as np
from strop.runtime.session import Session
a = np.ones((16, 64), np.float32)
assert Session(sys.argv[1], threads=2).run({"a": a, "b": a})["sum"][0, 0] == 1.0
compiler = ("frontend", "ops", "optimize", "quantize", "kernels", "lower", "codegen", "tune", "cli")
print([name for name in sys.modules if name.startswith("strop.")
       and (name.split(".")[1] in compiler or name == "strop.engine.build")])
"""
    assert syn.run_script(script, path, path="") == "[]\n"


def test_unusual_manifests_are_reported(tmp_path: Path) -> None:
    from strop.errors import EngineFileError

    for text in (b"{", b"[1]", b"\xff", b"[" * 100_000):
        parts = syn.sections()
        parts[0] = Section(SectionKind.MANIFEST, "manifest", [text])
        write_engine(tmp_path / "e.strop", parts)
        with pytest.raises(EngineFileError):
            _ = Session(tmp_path / "e.strop", threads=1).manifest
