"""Every ATen op that is read, against PyTorch."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'strop[torch]'")

from strop.frontend.torch import supported_overloads  # noqa: E402
from strop.frontend.torch.reader import judge, read  # noqa: E402
from tests.frontend.torch_cases import CASES, Case, Together  # noqa: E402
from tests.frontend.torch_models import check, compare, leaves  # noqa: E402

#: Overloads of no case: what PyTorch spells out unless the program comes from elsewhere; and torchvision, which has a test of its own.
ELSEWHERE = {
    *("aten.upsample_bilinear2d.default", "aten.upsample_bicubic2d.default"),
    *("torchvision.roi_align.default", "torchvision.deform_conv2d.default"),
}


def modules(case: Case) -> Together:
    return Together(case.functions).eval()


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    case = CASES[name]
    check(modules(case), case.inputs, case.rtol, case.atol)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_core_program(name: str) -> None:
    """What PyTorch has decomposed into core ATen before is read too."""
    case = CASES[name]
    module = modules(case)
    with torch.no_grad():
        program = torch.export.export(module, case.inputs).run_decompositions()
    compare(read(program), case.inputs, leaves(module, case.inputs), case.rtol, case.atol)


@pytest.mark.slow
def test_every_overload_is_tried() -> None:
    """Every overload that is registered is met in a case, and nothing else is."""
    met: set[str] = set()
    for case in CASES.values():
        module = modules(case)
        with torch.no_grad():
            program = torch.export.export(module, case.inputs).run_decompositions()
        for verdicts, _ in (judge(module, example_inputs=case.inputs), judge(program)):
            met |= {verdict.op_type for verdict in verdicts}
    assert met == set(supported_overloads()) - ELSEWHERE


def test_torchvision_ops() -> None:
    vision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    x, regions = torch.rand(2, 4, 9, 8), torch.tensor([[0, 1.0, 1.0, 6.0, 5.0], [1, 0.0, 2.0, 7.5, 8.0]])
    offset, mask, weight, bias = torch.randn(2, 18, 7, 6), torch.rand(2, 9, 7, 6), torch.randn(6, 4, 3, 3), torch.randn(6)
    align, deform = vision.ops.roi_align, vision.ops.deform_conv2d
    functions = {
        "roi_align": lambda x, r, o, m, w, b: (align(x, r, 3, 0.9, 2), align(x, r, (2, 3), 1.0, -1, True)),
        "deform_conv2d": lambda x, r, o, m, w, b: (deform(x, o, w, b), deform(x, o, w, mask=m)),
    }
    check(Together(functions), (x, regions, offset, mask, weight, bias), 1e-4, 1e-4)
