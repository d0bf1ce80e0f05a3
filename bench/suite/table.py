"""All tasks of the suite."""

from __future__ import annotations

from bench.suite import (
    basic_pitch,
    centerface,
    efficientnet_lite,
    english_g2,
    lenet,
    magika,
    minilm,
    open_wake_word,
    ppocr,
    romanizer,
    silero,
)
from bench.suite.task import Task

TASKS: tuple[Task, ...] = tuple(
    module.TASK
    for module in (
        ppocr,
        silero,
        magika,
        basic_pitch,
        open_wake_word,
        centerface,
        romanizer,
        minilm,
        efficientnet_lite,
        english_g2,
        lenet,
    )
)
