"""Child of ``saved_model_agreement``: runs in an environment that has TensorFlow and tf_keras, which Strop does not.

    python export_keras.py MODEL.h5 INPUT.npy FOLDER

Loads a Keras model, writes what it gives for the inputs to FOLDER/output.npy, and exports it as a SavedModel to FOLDER/saved_model.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras


def main(model: str, given: str, folder: str) -> None:
    net = tf_keras.models.load_model(model, compile=False)
    np.save(Path(folder) / "output.npy", net.predict(np.load(given), verbose=0))
    tf.saved_model.save(net, str(Path(folder) / "saved_model"))


if __name__ == "__main__":
    main(*sys.argv[1:])
