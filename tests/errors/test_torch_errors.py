"""What the PyTorch frontend refuses, and how it says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'strop[torch]'")

from torch import Tensor, nn  # noqa: E402

from strop.engine.build import build  # noqa: E402
from strop.errors import ModelError, OptionError, ShapeError, StropError, UnsupportedError  # noqa: E402
from strop.frontend.torch.reader import judge, read  # noqa: E402
from tests.errors.command import run  # noqa: E402

X = torch.zeros(2, 3, 4, 4)


class Net(nn.Module):
    """A module around a function, with a submodule so that paths have something to say."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.inner = Inner(function)

    def forward(self, *inputs: Tensor) -> Any:
        return self.inner(*inputs)


class Inner(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def refused(model: Any, *inputs: Tensor, error: type[StropError] = UnsupportedError, **options: Any) -> StropError:
    with pytest.raises(error) as found:
        read(model, example_inputs=inputs or None, **options)
    return found.value


def test_an_unsupported_op_is_named_with_its_place() -> None:
    error = refused(Net(lambda x: torch.linalg.det(x) + 1), X)
    assert "op aten._linalg_det.default is not supported" in error.what
    assert "node inner/" in str(error.where) and "test_torch_errors.py:" in str(error.where) and error.hint


def test_all_unsupported_ops_are_named() -> None:
    error = refused(Net(lambda x: (torch.linalg.det(x), torch.special.i0e(x), torch.relu(x))), X)
    assert "2 of " in error.what and "_linalg_det" in str(error.got) and "i0e" in str(error.got)


@pytest.mark.parametrize(
    ("function", "what", "hint"),
    [
        (lambda x: x.nonzero(), "depends on the data", "torch.where"),
        (lambda x: x[x > 0], "depends on the data", "torch.where"),
        (lambda x: x + torch.rand(2, 3, 4, 4), "random numbers", "input"),
        (lambda x: torch.fft.fft(x).real, "complex64", ""),
        (lambda x: x.as_strided((2, 3), (1, 2)), "views by strides", "reshape"),
        (lambda x: x.to_sparse().to_dense(), "", ""),
        (lambda x: nn.functional.dropout(x, 0.5, True), "training", "module.eval()"),
        (lambda x: x.scatter_reduce(0, torch.zeros(1, 1, 1, 1, dtype=torch.int64), x, "mean"), "this reduction", ""),
        (lambda x: x.scatter_reduce(0, torch.zeros(1, 1, 1, 1, dtype=torch.int64), x, "sum", include_self=False), "include_self", "neutral"),
        (lambda x: torch.searchsorted(x[0, 0, 0], x, sorter=torch.arange(4)), "sorter", "sort"),
        (lambda x: nn.functional.avg_pool2d(x, 3, 2, ceil_mode=True, divisor_override=2), "divisor_override", ""),
        (lambda x: nn.functional.adaptive_max_pool2d(x, 3, return_indices=True)[1], "result 1", ""),
    ],
)
def test_ops(function: Any, what: str, hint: str) -> None:
    error = refused(Net(function), X, error=StropError)
    assert what in error.what + str(error.got) and hint in (error.hint or "")


def test_state_that_changes() -> None:
    error = refused(nn.Sequential(nn.BatchNorm2d(3)), X)
    assert "changes a buffer" in error.what and "buffer 0." in str(error.where) and "module.eval()" in str(error.hint)

    class Cache(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("last", torch.zeros(2, 3, 4, 4))

        def forward(self, x: Tensor) -> Tensor:
            self.last.copy_(x)
            return self.last + 1

    error = refused(Cache(), X)
    assert error.where == "buffer last" and "give it back as an output" in str(error.hint)
    error = refused(Net(lambda x: x.add_(1)), X)
    assert "changes an input" in error.what and "clone" in str(error.hint)


def test_packed_sequences_and_projections() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(4, 5)

        def forward(self, x: Tensor, n: Tensor) -> Tensor:
            return self.rnn(nn.utils.rnn.PackedSequence(x, n))[0].data  # type: ignore[no-any-return]

    error = refused(Packed(), torch.zeros(5, 4), torch.tensor([2, 2, 1]), error=ModelError)  # PyTorch itself does not export it
    assert "cannot export the module Packed" in error.what
    error = refused(Projected(), torch.zeros(3, 1, 4))
    assert "projections" in error.what and "proj_size" in str(error.hint)


class Projected(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 5, proj_size=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]  # type: ignore[no-any-return]


def test_values_that_are_no_tensors() -> None:
    error = refused(Net(lambda x: (x + 1, 3)), X)
    assert "an output is no tensor" in error.what and error.got == "3"
    error = refused(Net(lambda x: x.to(torch.complex64)), X)
    assert "complex64" in error.what


def test_arguments() -> None:
    net = nn.Sequential(nn.ReLU())
    error = refused(net, error=OptionError)
    assert "needs example inputs" in error.what and "dynamic_shapes" in str(error.hint)
    with pytest.raises(OptionError, match="a sequence or a dict") as found:
        read(net, example_inputs=3)  # type: ignore[arg-type]
    assert found.value.got == "int"
    program = torch.export.export(net, (X,))
    for option in ("example_inputs", "dynamic_shapes"):
        with pytest.raises(OptionError, match=f"takes no {option}"):
            read(program, **{option: (X,)})
    with pytest.raises(UnsupportedError, match="no network"):
        build(torch.zeros(3))  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match="TorchScript") as refusal:
        read(torch.jit.script(net), example_inputs=(X,))
    assert "scripted from" in str(refusal.value.hint)


def test_what_torch_cannot_export() -> None:
    def branches(x: Tensor) -> Tensor:
        return x + 1 if x.sum() > 0 else x - 1

    error = refused(Net(branches), X, error=ModelError)
    assert "cannot export the module Net" in error.what and "torch.export.export" in str(error.hint) and error.got
    error = refused(nn.Linear(3, 4), X, error=ModelError)  # 4 columns for 3 rows of weights
    assert "cannot export the module Linear" in error.what


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(nn.Sequential(nn.ReLU()), (X,)), path)
    broken = tmp_path / "broken.pt2"
    broken.write_bytes(path.read_bytes().replace(b'"graph', b'"grape'))
    with pytest.raises(ModelError, match="cannot be read"):
        read(broken)
    torch.save(nn.ReLU().state_dict(), tmp_path / "state.pt")
    torch.jit.save(torch.jit.script(nn.ReLU()), tmp_path / "script.pt")
    for name, kind in (("state.pt", "checkpoint"), ("script.pt", "TorchScript")):
        with pytest.raises(UnsupportedError) as error:
            build(tmp_path / name)
        assert kind in str(error.value.got) and error.value.hint
    done = run("build", tmp_path / "state.pt", "-o", tmp_path / "x.strop")
    assert done.code == 1 and "checkpoint" in done.err


@pytest.mark.parametrize(
    ("shapes", "what"),
    [
        ({"x": "1..64x3"}, "leaves that of the exported program"),
        ({"y": "1x3"}, "no such input"),
        ({"x": "2x4"}, "another size here"),
        ({"x": "1..4"}, "wrong rank"),
        ({"batch": "2x3"}, "a dim is given a shape"),
        ({"x": "1..4x3", "batch": "1..8"}, "two values"),
        ({"rows": "1..9"}, "no such input"),
    ],
)
def test_shapes(shapes: dict[str, str], what: str) -> None:
    batch = torch.export.Dim("batch", min=1, max=8)

    class Relu(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.relu()

    with pytest.raises(OptionError) as error:
        read(Relu(), shapes, (torch.zeros(4, 3),), ({0: batch},))
    assert what in error.value.what


def test_multiples() -> None:
    width = torch.export.Dim("width", min=1, max=8)

    class Halved(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, ::2]

    for shapes, what in (({"x": "3x5"}, "a size does not fit"), ({"x": "3x2..7"}, "a range does not fit")):
        with pytest.raises(OptionError, match=what) as error:
            read(Halved(), shapes, (torch.zeros(3, 8),), ({1: 2 * width},))
        assert "2" in str(error.value.expected)


def test_a_range_without_end() -> None:
    class Counted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.arange(x.shape[0])

    with pytest.raises(UnsupportedError, match="has no bound") as error:
        read(Counted(), None, (torch.zeros(5),), ({0: torch.export.Dim("n")},))
    assert "--shape" in str(error.value.hint)


def test_a_fraction_of_a_dim() -> None:
    net = nn.Upsample(scale_factor=1.5)
    with pytest.raises(UnsupportedError, match="a fraction") as error:
        read(net, None, (X,), ({2: torch.export.Dim("h", min=2, max=8)},))
    assert "static" in str(error.value.hint)


def test_readers_of_a_refused_node_are_checked() -> None:
    verdicts, _ = judge(Net(lambda x: torch.linalg.det(x).relu()), example_inputs=(X,))
    assert [v.supported for v in verdicts] == [False, True] and verdicts[0].reason and verdicts[1].checked


def test_operands_that_do_not_fit_are_a_shape_error() -> None:
    assert issubclass(ShapeError, StropError)
