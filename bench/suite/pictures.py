"""Pictures and rendered text, by Pillow, which only the suite needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.suite.fetch import FONTS
from bench.suite.task import Array
from strop.errors import OptionError

try:
    from PIL import Image, ImageDraw, ImageFont
except ImportError:
    Image = None  # type: ignore[assignment]

#: Words of the rendered lines.
WORDS = ["the", "of", "and", "with", "from", "this", "that", "kernel", "layer", "weight", "engine", "memory", "vector", "matrix", "harbor", "window", "winter", "summer", "garden", "river", "mountain", "bridge", "letter", "number", "paper", "copper", "silver", "yellow", "orange", "purple", "quick", "quiet", "simple", "double", "triple", "single", "market", "station", "journey", "village", "kitchen", "picture", "history", "science", "measure", "station", "question", "answer", "morning", "evening", "Monday", "Friday", "London", "Paris", "Berlin", "Madrid", "2024", "1987", "350", "42", "7", "1200", "16.5", "99%", "A4", "B12", "No.3"]


def need_pillow() -> None:
    """OptionError unless Pillow is installed."""
    if Image is None:
        raise OptionError("the suite's pictures need Pillow", hint="pip install pillow")


def open_picture(path: Path) -> Any:
    """A picture of a file."""
    need_pillow()
    return Image.open(path)


def fonts() -> list[Path]:
    """The upright and slanted text faces of Debian's DejaVu packages, by name.

    Raises:
        OptionError: they are not installed.
    """
    found = sorted(path for path in FONTS.glob("*.ttf") if "Math" not in path.stem)
    if not found:
        raise OptionError("DejaVu fonts are not installed", where=str(FONTS), hint="apt-get install fonts-dejavu")
    return found


def sentence(rng: np.random.Generator, low: int = 1, high: int = 3) -> str:
    """A few words."""
    return " ".join(WORDS[k] for k in rng.integers(0, len(WORDS), int(rng.integers(low, high + 1))))


def line(text: str, font: Path, size: int, rng: np.random.Generator, noise: float = 8.0) -> Array:
    """u8[H, W]: dark text on a light ground with Gaussian noise."""
    need_pillow()
    face = ImageFont.truetype(str(font), size)
    left, top, right, bottom = face.getbbox(text)
    ground, ink = int(rng.integers(200, 256)), int(rng.integers(0, 80))
    margin = size // 6
    image = Image.new("L", (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin), ground)
    ImageDraw.Draw(image).text((margin - left, margin - top), text, fill=ink, font=face)
    return np.uint8(np.clip(np.array(image, np.float32) + rng.normal(0, noise, (image.height, image.width)), 0, 255))


def lines(count: int, seed: int, sizes: tuple[int, int] = (20, 40)) -> list[tuple[str, Array]]:
    """(text, picture) of lines in all faces in turn."""
    rng = np.random.default_rng(seed)
    faces = fonts()
    found = []
    for number in range(count):
        text = sentence(rng)
        found.append((text, line(text, faces[number % len(faces)], int(rng.integers(*sizes)), rng)))
    return found


def resize(picture: Array, height: int, width: int) -> Array:
    """u8[height, width], bilinear."""
    need_pillow()
    return np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))


def edits(a: str, b: str) -> int:
    """The Levenshtein distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


def greedy_ctc(p: Array, characters: list[str]) -> list[str]:
    """The best path of every row of [N, T, classes]: repeats and blanks (class 0) dropped; ``characters[k]`` is class k."""
    found = []
    for best in p.argmax(-1):
        kept = best[np.concatenate([[True], best[1:] != best[:-1]])]
        found.append("".join(characters[k] for k in kept if k))
    return found
