"""Printing and reading back graphs; malformed text gives a ModelError with its line."""

from __future__ import annotations

import itertools
import random

import ml_dtypes
import numpy as np
import pytest

import strop.ops  # noqa: F401  registers every op
from strop.errors import ModelError
from strop.ir import dtype as dt
from strop.ir import parse, text
from strop.ir.graph import Graph
from strop.ir.op import REGISTRY, Sample, Type
from strop.ir.shape import DimExpr, Sym
from strop.ops.conv import Conv
from strop.ops.data import Reshape, Split
from strop.ops.elementwise import FUNCTIONS, Cast, make
from tests import golden

BATCH = Sym("batch", 1, 4, 8)


def small() -> Graph:
    graph = Graph('odd "name"')
    x = graph.add_input("x", Type(dt.f32, (BATCH, 3, 8, 8)))
    w = graph.add_const(np.arange(108, dtype=np.float32).reshape(4, 3, 3, 3), "w")
    scale = graph.add_const(np.float32(0.1), "a scale")
    y = graph.add(Conv((1, 1), (0, 0, 0, 0), (1, 1)), [x, w], name="/a/b:conv", source=["Conv_0"])
    z = graph.add(make("mul"), [y.output, scale], source=["Mul_1", "Div_2"], outputs=["scaled"])
    z = graph.add(make("leaky_relu", alpha=0.3), z.outputs)
    z = graph.add(Cast(dt.f16), z.outputs)
    first, second = graph.add(Split(1, (1, 3)), z.outputs).outputs
    flat = graph.add(Reshape((BATCH, 108)), [second]).output
    graph.set_outputs([flat, first], ["flat", "first part"])
    return graph


def again(graph: Graph) -> Graph:
    return text.parse(text.show(graph), text.by_digest(graph))


def test_golden(request: pytest.FixtureRequest) -> None:
    golden.check("ir/text.ir", text.show(small()), request.config)


def test_round_trip_keeps_everything() -> None:
    one = small()
    two = again(one)
    assert text.show(two) == text.show(one)
    assert [n.name for n in two.nodes] == [n.name for n in one.nodes]
    assert [n.op for n in two.nodes] == [n.op for n in one.nodes]
    assert [n.source for n in two.nodes] == [n.source for n in one.nodes]
    assert list(two.values) == list(one.values)
    assert two.inputs[0].type == one.inputs[0].type
    assert two.output_names == ["flat", "first part"] and two.name == one.name


def _samples() -> list[Sample]:
    rng = np.random.default_rng(0)
    per_op = [(name, cls.samples(rng)) for name, cls in REGISTRY.items()]
    limits = {"elementwise": 3 * len(FUNCTIONS)}
    return [s for name, stream in per_op for s in itertools.islice(stream, limits.get(name, 25))]


def test_round_trip_of_every_op() -> None:
    seen = set()
    for sample in _samples():
        graph = Graph("sample")
        operands = [
            graph.add_input(f"x{i}", Type(dt.from_numpy(a.dtype), a.shape))
            for i, a in enumerate(sample.inputs)
        ]
        node = graph.add(sample.op, operands, source=["here"])
        graph.set_outputs(node.outputs)
        back = again(graph)
        assert back.nodes[0].op == sample.op
        assert [type(v) for v in vars(back.nodes[0].op).values()] == [
            type(v) for v in vars(sample.op).values()
        ]
        assert text.show(back) == text.show(graph)
        seen.add(sample.op.label)
    assert seen >= (set(REGISTRY) - {"elementwise"}) | set(FUNCTIONS)


@pytest.mark.parametrize("dtype", dt.ALL, ids=str)
def test_constants_are_exact(dtype: dt.DType) -> None:
    graph = Graph()
    if dtype.is_float:
        info = ml_dtypes.finfo(dtype.numpy)
        raw = [0.0, -0.0, 0.1, 1 / 3, -2.5, info.max, info.tiny, np.inf, -np.inf]
        array = np.array(raw, dtype=dtype.numpy)
    elif dtype is dt.boolean:
        array = np.array([True, False])
    else:
        limits = np.iinfo(dtype.numpy)
        array = np.array([limits.min, 0, 1, limits.max], dtype=dtype.numpy)
    graph.set_outputs([graph.add_const(array, "c")])
    back = again(graph).outputs[0].const
    assert back is not None and back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()


def test_random_f32_constants_are_exact() -> None:
    bits = np.random.default_rng(1).integers(0, 1 << 32, 4000, dtype=np.uint32).view(np.float32)
    for chunk in bits[~np.isnan(bits)][:3968].reshape(-1, 16):
        graph = Graph()
        graph.set_outputs([graph.add_const(chunk, "c")])
        assert again(graph).outputs[0].const.tobytes() == chunk.tobytes()


def test_large_and_nan_constants_go_by_digest() -> None:
    graph = Graph()
    nan = np.array([np.nan, 1], np.float32)
    big = np.arange(17)
    values = [graph.add_const(nan, "n"), graph.add_const(big, "b"), graph.add_const(big[:16], "s")]
    graph.set_outputs(values)
    assert set(text.by_digest(graph)) == {text.digest(nan), text.digest(big)}
    assert again(graph).outputs[0].const is nan


def test_digest_tells_dtype_shape_and_content_apart() -> None:
    a = np.arange(6, dtype=np.int32)
    others = [a.reshape(2, 3), a.astype(np.uint32), a + 1, a.reshape(2, 3).T]
    digests = {text.digest(x) for x in (a, *others)}
    assert len(digests) == 5
    assert text.digest(a.copy()) == text.digest(a)
    assert text.digest(np.asfortranarray(a.reshape(2, 3))) == text.digest(a.reshape(2, 3))


def test_dim_expressions() -> None:
    dims = (
        DimExpr("floordiv", (DimExpr("add", (BATCH, -1)), 2)),
        DimExpr("max", (BATCH, DimExpr("mod", (BATCH, 3)))),
        Sym("odd name", 0, 1, 7),
        Sym("max", 1, 1, 1),
    )
    graph = Graph()
    graph.set_outputs([graph.add_input("x", Type(dt.f32, dims))])
    assert again(graph).inputs[0].shape == dims


HEAD = 'graph "g"\nsymbol n = 1..8 opt 1\ninput %x : f32[n,4]\nconst %c : f32[2] = [1.0,2.0]\n'
BAD = {
    "empty": ("", "empty"),
    "no graph line": ("input %x : f32[1]", "line 1"),
    "no graph line before a node": ("%x : f32[1] = relu(%y)", "line 1"),
    "two graph lines": ('graph "a"\ngraph "b"', "line 2"),
    "unknown line": (HEAD + "frobnicate", "line 5"),
    "unknown op": (HEAD + "%y : f32[n,4] = frobnicate(%x)", "frobnicate"),
    "unknown dtype": (HEAD + "%y : f33[n,4] = relu(%x)", "f33"),
    "unknown symbol": (HEAD + "%y : f32[m,4] = relu(%x)", "unknown symbol"),
    "unknown value": (HEAD + "%y : f32[n,4] = relu(%z)", "%z"),
    "wrong type": (HEAD + "%y : f32[n,5] = relu(%x)", "another result type"),
    "wrong arity": (HEAD + "%y : f32[n,4] = relu(%x, %x)", "operands"),
    "wrong result count": (HEAD + "%y : f32[n,4], %z : f32[n,4] = relu(%x)", "another result"),
    "name taken": (HEAD + "%x : f32[n,4] = relu(%x)", "taken"),
    "two results of one name": (
        HEAD + "%y : f32[n,2], %y : f32[n,2] = split(%x) {axis=1, sizes=[2,2]}",
        "taken",
    ),
    "node name taken": (
        HEAD + '%y : f32[n,4] = relu(%x) as "a"\n%z : f32[n,4] = relu(%x) as "a"',
        "line 6",
    ),
    "unknown attribute": (HEAD + "%y : f32[n,4] = softmax(%x) {axes=1}", "axes"),
    "attribute twice": (HEAD + "%y : f32[n,4] = softmax(%x) {axis=1, axis=1}", "twice"),
    "attribute of wrong type": (HEAD + '%y : f32[n,4] = softmax(%x) {axis="1"}', "softmax.axis"),
    "float for an int": (HEAD + "%y : f32[n,4] = softmax(%x) {axis=1.0}", "softmax.axis"),
    "bool for an int": (HEAD + "%y : f32[n,4] = softmax(%x) {axis=true}", "softmax.axis"),
    "unknown param": (HEAD + "%y : f32[n,4] = relu(%x) {alpha=1.0}", "alpha"),
    "axis out of range": (HEAD + "%y : f32[n,4] = softmax(%x) {axis=7}", "line 5"),
    "missing attribute": (HEAD + "%y : f32[4,n] = transpose(%x)", "incomplete"),
    "negative dim": (HEAD + "input %y : f32[-1]", "out of range"),
    "huge dim": (HEAD + "input %y : f32[999999999999999999]", "out of range"),
    "huge number": (HEAD + "input %y : f32[" + "9" * 5000 + "]", "line 5"),
    "deep brackets": (HEAD + "%y : f32[n,4] = softmax(%x) {axis=" + "[" * 100, "deep"),
    "deep dims": (HEAD + "input %y : f32[" + "(" * 100 + "n", "deep"),
    "open string": (HEAD + 'output %x as "abc', "line 5"),
    "bad escape": (HEAD + 'output %x as "\\q"', "malformed string"),
    "stray character": (HEAD + "output %x as ~", "unexpected character"),
    "rest of line": (HEAD + 'output %x as "x" more', "more"),
    "no outputs": (HEAD, "no output"),
    "node after output": (HEAD + 'output %x as "x"\n%y : f32[n,4] = relu(%x)', "line 6"),
    "missing constant": (HEAD + "const %d : f32[9] = #00ff", "00ff"),
    "few elements": (HEAD + "const %d : f32[3] = [1.0]", "number of elements"),
    "element out of range": (HEAD + "const %d : i8[1] = [128]", "out of range"),
    "float in an integer constant": (HEAD + "const %d : i8[1] = [1.5]", "element"),
    "symbolic constant": (HEAD + "const %d : f32[n] = [1.0]", "static"),
    "symbol bounds": (HEAD + "symbol m = 3..2 opt 1", "bounds"),
    "symbol twice": (HEAD + "symbol n = 1..2 opt 1", "twice"),
    "operand left out last": (HEAD + "%y : f32[n,4] = relu(%x, none)", "last operand"),
    "operand left out first": (HEAD + "%y : f32[n,4] = relu(none)", "line 5"),
    "long list": (HEAD + "%y : f32[n,4] = softmax(%x) {axis=[" + "1," * 70000 + "1]}", "too long"),
}


@pytest.mark.parametrize("case", BAD, ids=str)
def test_bad_text_is_refused(case: str) -> None:
    source, expected = BAD[case]
    with pytest.raises(ModelError) as caught:
        text.parse(source, {})
    message = str(caught.value)
    assert expected in message
    assert "graph text" in message


def test_a_given_constant_must_have_the_stated_type() -> None:
    source = 'graph "g"\nconst %d : f32[9] = #00ff\noutput %d as "d"'
    assert text.parse(source, {"00ff": np.zeros(9, np.float32)}).outputs[0].shape == (9,)
    with pytest.raises(ModelError, match="another type"):
        text.parse(source, {"00ff": np.zeros(9, np.float64)})


def test_text_size_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse, "MAX_TEXT", 10)
    with pytest.raises(ModelError, match="too long"):
        text.parse(HEAD, {})
    monkeypatch.undo()
    monkeypatch.setattr(parse, "MAX_LINES", 3)
    with pytest.raises(ModelError, match="too many lines"):
        text.parse(HEAD, {})


def test_damaged_text_gives_a_model_error_or_a_valid_graph() -> None:
    graph = small()
    whole, constants = text.show(graph), text.by_digest(graph)
    letters = 'abn01-%[](){}=",.:@# \n\\9'
    rng = random.Random(5)
    refused = 0
    for _ in range(1500):
        at = rng.randrange(len(whole))
        kind = rng.randrange(3)
        if kind == 0:
            damaged = whole[:at] + whole[at + rng.randrange(1, 6) :]
        elif kind == 1:
            damaged = whole[:at] + rng.choice(letters) + whole[at + 1 :]
        else:
            damaged = whole[:at] + rng.choice(letters) + whole[at:]
        try:
            back = text.parse(damaged, constants)
        except ModelError:
            refused += 1
        else:
            assert text.show(back)
    assert refused > 900
