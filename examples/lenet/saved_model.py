"""Writes the demonstration's LeNet as a SavedModel (DIR/lenet) and as a Keras file (DIR/lenet.keras).

    python examples/lenet/saved_model.py DIR

Needs the package tensorflow; reading what it writes does not. Images are [N, 28, 28, 1] here, and the first dense layer takes the
features in that order too.
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from strop.demo_data import lenet_weights

FEATURES = (50, 4, 4)


def model() -> tf.keras.Model:
    """LeNet with the trained weights."""
    layers = tf.keras.layers
    net = tf.keras.Sequential(
        [
            tf.keras.Input((28, 28, 1), name="image"),
            layers.Conv2D(20, 5, name="conv1"),
            layers.MaxPooling2D(2),
            layers.Conv2D(50, 5, name="conv2"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(500, "relu", name="fc1"),
            layers.Dense(10, name="fc2"),
        ]
    )
    given = lenet_weights()
    for name in ("conv1", "conv2"):
        net.get_layer(name).set_weights([given[f"{name}.weight"].transpose(2, 3, 1, 0), given[f"{name}.bias"]])
    first = given["fc1.weight"].reshape(-1, *FEATURES).transpose(2, 3, 1, 0).reshape(np.prod(FEATURES), -1)
    net.get_layer("fc1").set_weights([first, given["fc1.bias"]])
    net.get_layer("fc2").set_weights([given["fc2.weight"].T, given["fc2.bias"]])
    return net


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    net = model()
    net.export(folder / "lenet", verbose=False)
    net.save(folder / "lenet.keras")
