"""Strop's best engine against PyTorch as its users have it: eager, FP32, the same threads.

    python -m bench.best --models DIR --resnet DIR --torch VENV/bin/python --pictures PACKAGES --json out.json

Of every net engines are built in several precisions. Some samples calibrate; on others the share of classes is counted that the net names as PyTorch does with
the same weights. The fastest engine that loses at most ``MOST_LOST`` of them is timed, in turns with PyTorch. Samples are real: MNIST digits, crops of
photographs, sentences. No photograph is in both parts. The exit code is 1 when a net has no such engine, or its floats are not PyTorch's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from bench import host, trained_resnet
from bench.kept import kept
from bench.report import pipes, replace_section
from bench.results import write_text
from strop import demo_data
from strop.cli.output import table as print_table
from strop.engine import race
from strop.engine.build import build
from strop.engine.engine import Engine
from strop.engine.peer_process import Peer
from strop.engine.ratios import geometric_mean
from strop.engine.versus import Row, Settings, choose_cpus, compare, output_error
from strop.engine.versus_report import Table, milliseconds
from strop.errors import OptionError, StropError

SCRIPT = Path(__file__).with_name("best_torch.py")
PYTORCH = Peer("pytorch", SCRIPT, "torch", None, "not limited here")
#: Share of classes that may be lost, and largest error of floats: max |ours - theirs| / max |theirs|.
MOST_LOST, FLOAT_ERROR = 0.01, 1e-4
#: What a geometric mean is expected to reach.
EXPECTED = 8.0
#: Seconds that PyTorch may take for all samples, or to train the tagger.
TIMEOUT = 3600
#: A crop's side, and its least part of a photograph's shorter side; usual evaluations of such nets take 7/8 of it from the middle.
SIDE, LEAST = 224, 0.5
#: Photographs of things, in colour, below the folder that ``python -m bench.suite fetch`` fills; scikit-image's other pictures are drawings, or were taken through
#: microscopes and telescopes.
PHOTOGRAPHS = (
    "foolbox/foolbox/data/imagenet_*.jpg",
    *(f"scikit-image/skimage/data/{name}" for name in ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "motorcycle_right.png", "rocket.jpg")),
)
#: A precision of engines here: int8, of which layers are lifted until at most this share of classes, in hundredths, is expected to be lost (``certainty``). It is
#: built where int8, if it stands before it, loses too many.
LIFTED, LOST = "int8-lifted", 1.4
#: Classes of a sample whose scores tell ``certainty`` the noise.
_BEST = 10
_MEAN, _DEVIATION = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
RESNET = "resnet50"
PICTURE_NETS = ("mobilenet_v2", RESNET)
NETS = ("lenet", *PICTURE_NETS, "tagger")


@dataclass(frozen=True)
class Case:
    """A net with its samples.

    Attributes:
        name: of the net and of its module (``best_torch.py``).
        model: the ONNX file.
        weights: its weights by the names of the module's state dict, .npz.
        calibration: samples of its only input, one after the other.
        tests: others, on which agreement is counted.
        shapes: of ``strop.build``.
    """

    name: str
    model: Path
    weights: Path
    calibration: list[Any]
    tests: list[Any]
    shapes: dict[str, str] | None = None


@dataclass(frozen=True)
class Found:
    """What was found on one net.

    Attributes:
        net: its name.
        error: of its engine in floats against PyTorch.
        tests: samples on which agreement was counted.
        agreement: precision to the share of classes that are PyTorch's.
        refused: precision to why it was not built.
        chosen: the precision of the fastest engine that agrees; empty when there is none.
        row: its times.
    """

    net: str
    error: float
    tests: int
    agreement: dict[str, float]
    refused: dict[str, str]
    chosen: str
    row: Row | None

    @property
    def good(self) -> bool:
        """Whether floats agree, and an engine was timed that loses no more than it may."""
        return self.error <= FLOAT_ERROR and self.row is not None and self.row.ratio is not None


# ---- nets and samples


def normalized(pixels: Any) -> Any:
    """f32[1, 3, H, W] as torchvision's nets expect it, of u8[H, W, 3]."""
    return np.ascontiguousarray(((np.asarray(pixels, np.float32) / 255 - _MEAN) / _DEVIATION).transpose(2, 0, 1)[None])


def crops(photographs: Sequence[Any], count: int, seed: int) -> list[Any]:
    """u8[SIDE, SIDE, 3]: squares of photographs in turn, from seeded places, every other one mirrored.

    Args:
        photographs: Pillow's pictures.
    """
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        picture = photographs[number % len(photographs)]
        side = int(min(picture.size) * rng.uniform(LEAST, 1))
        left, top = (int(rng.integers(0, length - side + 1)) for length in picture.size)
        square = picture.crop((left, top, left + side, top + side)).resize((SIDE, SIDE))
        pixels = np.asarray(square)
        found.append(np.ascontiguousarray(pixels[:, ::-1] if number % 2 else pixels))
    return found


def photographs(folder: Path) -> list[Any]:
    """``PHOTOGRAPHS`` below a folder, by path.

    Raises:
        OptionError: Pillow is not installed, or some are not there.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise OptionError("pictures need Pillow", got=error, hint="pip install 'strop[images]'") from None
    found = []
    for pattern in PHOTOGRAPHS:
        paths = sorted(folder.glob(pattern))
        if not paths:
            raise OptionError("there are no photographs", where=str(folder), expected=pattern, hint=f"python -m bench.suite fetch {folder}")
        for path in paths:
            with Image.open(path) as picture:
                found.append(picture.convert("RGB"))
    return found


def parts(folder: Path, calibration: int, tests: int) -> tuple[list[Any], list[Any]]:
    """Crops that calibrate and crops that test: of every second photograph the ones, of those between the others."""
    pictures = photographs(folder)
    return crops(pictures[::2], calibration, 0), crops(pictures[1::2], tests, 1)


def state_dict(model: Path, out: Path) -> Path:
    """Writes the weights of an ONNX file by name, as .npz; the path."""
    np.savez(out, **{tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(str(model)).graph.initializer})
    return out


def cases(
    names: Sequence[str], models: Path | None, resnet: Path | None, pictures: Path | None, counts: tuple[int, int], torch: Callable[..., None], folder: Path
) -> list[Case]:
    """The nets of these names.

    Args:
        models: folder of the .onnx files of PICTURE_NETS but RESNET.
        resnet: folder for the package of RESNET's trained weights (``trained_resnet.py``).
        pictures: folder of packages with the photographs.
        counts: of samples that calibrate, and of tests.
        torch: runs a verb of ``best_torch.py``.
        folder: for what is made.

    Raises:
        OptionError: an unknown net, or a folder or file that is missing.
    """
    unknown = [name for name in names if name not in NETS]
    if unknown or not names:
        raise OptionError("no such nets", where="--only", got=", ".join(unknown), expected=", ".join(NETS))
    squares: tuple[list[Any], list[Any]] = ([], [])
    if any(name in PICTURE_NETS for name in names):
        if pictures is None or (RESNET in names and resnet is None) or (models is None and any(name in PICTURE_NETS and name != RESNET for name in names)):
            raise OptionError("nets of pictures need their files and photographs", where=", ".join(PICTURE_NETS), expected="--models, --resnet and --pictures")
        squares = parts(pictures, *counts)
    seen, all_of = counts[0], sum(counts)
    found = []
    for name in names:
        weights, shapes, prepared = folder / f"{name}.npz", None, normalized
        if name == "lenet":
            model, samples = demo_data.lenet_path(), [digit[None] for digit in demo_data.held_back_digits()[0][:all_of]]
        elif name == "tagger":
            torch("tagger", str(folder))
            model = folder / "tagger.onnx"
            with np.load(folder / "tagger.samples.npz", allow_pickle=False) as stored:
                samples = [sentence[None] for sentence in stored["words"][:all_of]]
            shapes = {"words": "x".join(map(str, samples[0].shape))}
        elif name == RESNET:
            assert resnet is not None
            np.savez(weights, **trained_resnet.fetched(resnet))
            torch("resnet50", str(folder))
            model, prepared, samples = folder / f"{name}.onnx", trained_resnet.picture, []
        else:
            assert models is not None
            model, samples = models / f"{name}.onnx", []
            if not model.exists():
                raise OptionError("no such net", where=str(model), hint="bench/nets.py --export DIR makes it where torchvision is installed")
        calibration, tests = (samples[:seen], samples[seen:]) if samples else ([prepared(square) for square in part] for part in squares)
        found.append(Case(name, model, weights if weights.exists() else state_dict(model, weights), calibration, tests, shapes))
    return found


def torch_runner(python: Path) -> Callable[..., None]:
    """Runs verbs of ``best_torch.py`` with an interpreter; the function raises OptionError with the last line of what it says when it fails."""

    def run(*arguments: str) -> None:
        try:
            done = subprocess.run([str(python), str(SCRIPT), *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise OptionError("PyTorch does not run", where="--torch", got=error) from None
        if done.returncode:
            raise OptionError("PyTorch failed", where=arguments[0], got=(done.stderr.strip().splitlines() or ["nothing was said"])[-1])

    return run


# ---- measuring


def classes(output: Any) -> Any:
    """The class of every row of scores."""
    return np.asarray(output).argmax(-1).ravel()


def share(engine: Engine, tests: Sequence[Any], wanted: Sequence[Any]) -> float:
    """The share of classes that are those of PyTorch's outputs."""
    same = [classes(engine(sample)) == classes(output) for sample, output in zip(tests, wanted, strict=True)]
    return float(np.concatenate(same).mean())


def certainty(outputs: Mapping[str, Any], labels: Any, wanted: Mapping[str, Any] | None) -> Any:
    """A metric for ``max_drop``: per row of scores 100 times the probability that noise does not change its class, float64[rows].

    The noise is taken to be normal, with the deviation that the errors of the best scores have; it has to make up for the distance between the best two.
    Unlike a count of classes it tells small differences from few samples.
    """
    assert wanted is not None
    found, right = (np.asarray(next(iter(each.values())), np.float64) for each in (outputs, wanted))
    found, right = found.reshape(-1, found.shape[-1]), right.reshape(-1, right.shape[-1])
    order = np.argsort(-right, axis=1)[:, :_BEST]
    best = np.take_along_axis(right, order, 1)
    noise = math.sqrt(2) * np.std(np.take_along_axis(found, order, 1) - best, axis=1)
    apart = (best[:, 0] - best[:, 1]) / np.maximum(noise, 1e-30)
    return np.array([50 * math.erfc(-each / math.sqrt(2)) for each in apart])


def fastest(engines: Mapping[str, Engine], agreement: Mapping[str, float], sample: Any) -> str:
    """The precision of the engine that runs faster than every other of those that agree, in turns; empty when none agrees."""
    best = ""
    for name in engines:
        if agreement[name] >= 1 - MOST_LOST:
            inputs = {engines[name].inputs[0].name: sample}
            if not best or race.ratio(engines[name], engines[best], inputs) < 1:
                best = name
    return best


def engine_of(case: Case, precision: str, level: int, threads: int, engines: Path | None) -> Engine:
    """Built, calibrated where that is needed, or taken from the folder of engines.

    Raises:
        StropError: it cannot be built.
    """
    kind = precision
    given: dict[str, Any] = {}
    if precision in ("int8", "auto", LIFTED):
        given["calibration"] = [(sample,) for sample in case.calibration]
    if precision == LIFTED:
        kind, given["max_drop"], given["metric"] = "int8", LOST, certainty
    seen = hashlib.sha256(case.model.read_bytes() + b"".join(sample.tobytes() for sample in case.calibration)).hexdigest()
    return kept(
        engines, f"{case.name}-{precision}", [seen, case.shapes, level], threads,
        lambda: build(case.model, level=level, threads=threads, shapes=case.shapes, precision=kind, **given),
    )  # fmt: skip


def measure(
    case: Case, precisions: Sequence[str], level: int, python: Path, torch: Callable[..., None], settings: Settings, folder: Path, kept_in: Path | None
) -> Found:
    """Builds, counts, chooses, times."""
    samples, out = folder / f"{case.name}.tests.npz", folder / f"{case.name}.outputs.npz"
    np.savez(samples, **{str(k): sample for k, sample in enumerate(case.tests)})
    torch("outputs", str(case.weights), str(samples), str(out))
    with np.load(out, allow_pickle=False) as stored:
        wanted = [stored[str(k)] for k in range(len(case.tests))]
    floats = engine_of(case, "fp32", 0, settings.threads, kept_in)
    error = max(output_error([floats(sample)], [right]) for sample, right in zip(case.tests, wanted, strict=True))
    engines: dict[str, Engine] = {}
    agreement: dict[str, float] = {}
    refused: dict[str, str] = {}
    for precision in precisions:
        if precision == LIFTED and agreement.get("int8", 0.0) >= 1 - MOST_LOST:
            continue
        _tell(f"{case.name} in {precision}")
        try:
            engines[precision] = engine_of(case, precision, level, settings.threads, kept_in)
        except StropError as refusal:
            refused[precision] = str(refusal)
            continue
        agreement[precision] = share(engines[precision], case.tests, wanted)
    chosen = fastest(engines, agreement, case.tests[0])
    row = None
    if chosen and error <= FLOAT_ERROR:
        _tell(f"{case.name}: {chosen} and PyTorch in turns")
        engine = engines[chosen]
        row = compare(engine, case.weights, [PYTORCH], python, settings, name=case.name, inputs={engine.inputs[0].name: case.tests[0]})
    return Found(case.name, error, sum(classes(output).size for output in wanted), agreement, refused, chosen, row)


def _tell(text: str) -> None:
    """Progress, on one line of a terminal; nothing elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


# ---- results


def table(found: Sequence[Found]) -> Table:
    """A row per net."""
    rows = []
    for each in found:
        row = each.row
        ratio = row.ratio if row is not None else None
        shown = ", ".join(f"{name} {100 * value:.2f} %" for name, value in each.agreement.items())
        own = row.entry("strop") if row is not None else None
        peer = row.entry(PYTORCH.name) if row is not None else None
        why = "" if each.good else "floats differ" if each.error > FLOAT_ERROR else row.reason if row is not None else "none agrees"
        rows.append((
            each.net, f"{each.error:.0e}", str(each.tests), shown, each.chosen, milliseconds(own), milliseconds(peer),
            f"{ratio.median:.2f}" if ratio else why, f"[{ratio.low:.2f}, {ratio.high:.2f}]" if ratio else "",
        ))  # fmt: skip
    numbers = ("float error", "classes", "strop ms", "pytorch ms", "ratio")
    return Table(("net", "float error", "classes", "same as PyTorch's", "fastest", "strop ms", "pytorch ms", "ratio", "range"), tuple(rows), numbers)


def notes(found: Sequence[Found], level: int, threads: int) -> list[str]:
    """The mean, what was refused, and how it was measured."""
    ratios = [each.row.ratio.median for each in found if each.row is not None and each.row.ratio is not None]
    lines = []
    if ratios:
        lines.append(f"eager PyTorch takes {geometric_mean(ratios):.2f} x Strop's time (geometric mean of {len(ratios)} nets); expected of all four: {EXPECTED:g}")
    lines += [f"{each.net}: not in {name}: {' '.join(why.split())}" for each in found for name, why in each.refused.items()]
    version = next((e.version for each in found if each.row for e in each.row.entries if e.name == PYTORCH.name), "")
    lines.append(f"PyTorch {version}, {threads} thread{'s' * (threads != 1)}, batch 1; built at level {level}")
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.best", description="Strop's best engine against eager PyTorch.")
    add = parser.add_argument
    add("--torch", type=Path, required=True, metavar="PYTHON", help="an interpreter that has torch and torchvision")
    add("--models", type=Path, metavar="DIR", help="folder of mobilenet_v2.onnx as torchvision exports it")
    add("--resnet", type=Path, metavar="DIR", help=f"folder where the package of the trained {RESNET} lies, or is downloaded to (95 MB)")
    add("--pictures", type=Path, metavar="DIR", help="folder that python -m bench.suite fetch filled, for its photographs")
    add("--only", default=",".join(NETS), metavar="NAMES", help="some of the nets, separated by commas")
    add("--precisions", default=f"auto,int8,{LIFTED},bf16,fp32", metavar="NAMES", help=f"that engines are built in; {LIFTED}: int8 with layers lifted by expected loss")
    add("--calibration", type=int, default=200, metavar="N", help="samples per net that calibrate")
    add("--tests", type=int, default=1000, metavar="N", help="samples per net on which agreement is counted")
    add("--threads", type=int, default=1, metavar="N")
    add("--level", type=int, default=2, help="effort of Strop's builds")
    add("--engines", type=Path, metavar="DIR", help="keep engines there, and take those that an earlier run has kept")
    add("--rounds", type=int, default=Settings.rounds)
    add("--seconds", type=float, default=Settings.seconds, help="of a turn")
    add("--json", type=Path, metavar="FILE", help="write the results, after every net")
    add("--markdown", type=Path, metavar="FILE", help="write the table between the markers 'best' in a file")
    return parser


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _run(given: argparse.Namespace) -> int:
    if min(given.calibration, given.tests) < 2:
        raise OptionError("too few samples", where="--calibration, --tests", got=(given.calibration, given.tests), expected="2 or more")
    facts = host.facts()
    settings = Settings(given.threads, given.rounds, given.seconds, choose_cpus(given.threads), tolerance=1.0)
    python = given.torch.absolute()
    torch = torch_runner(python)
    found: list[Found] = []
    with tempfile.TemporaryDirectory(prefix="strop-best-") as text:
        folder = Path(text)
        for case in cases(_names(given.only), given.models, given.resnet, given.pictures, (given.calibration, given.tests), torch, folder):
            found.append(measure(case, _names(given.precisions), given.level, python, torch, settings, folder, given.engines))
            if given.json is not None:
                write_text(given.json, json.dumps({"host": facts, "level": given.level, "nets": [asdict(each) for each in found]}, indent=1) + "\n")
    _tell("")
    shown, lines = table(found), notes(found, given.level, given.threads)
    print_table(shown.columns, shown.rows, right=shown.numbers)
    print("\n".join(lines))
    if given.markdown is not None:
        replace_section(given.markdown, "best", "\n\n".join([f"Machine: {host.describe(facts)}.", pipes(shown), "\n".join(f"- {line}" for line in lines)]))
    return int(not all(each.good for each in found))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    given = _parser().parse_args(arguments)
    try:
        return _run(given)
    except StropError as error:
        print(f"bench.best: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
