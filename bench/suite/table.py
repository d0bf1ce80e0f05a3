"""All tasks of the suite."""

from __future__ import annotations

from bench.suite import (
    basic_pitch,
    blazeface,
    centerface,
    efficientnet_lite,
    english_g2,
    keyword_on_off,
    lenet,
    magika,
    micro_wake_word,
    minilm,
    mlperf_tiny,
    objectron_ssd,
    open_wake_word,
    ppocr,
    romanizer,
    silero,
)
from bench.suite.task import Task

TASKS: tuple[Task, ...] = (
    ppocr.TASK,
    silero.TASK,
    magika.TASK,
    basic_pitch.TASK,
    open_wake_word.TASK,
    centerface.TASK,
    romanizer.TASK,
    minilm.TASK,
    efficientnet_lite.TASK,
    english_g2.TASK,
    lenet.TASK,
    mlperf_tiny.CIFAR_TASK,
    mlperf_tiny.PERSON_TASK,
    keyword_on_off.TASK,
    micro_wake_word.TASK,
    blazeface.TASK,
    objectron_ssd.TASK,
    basic_pitch.TFLITE_TASK,
    open_wake_word.TFLITE_TASK,
)
