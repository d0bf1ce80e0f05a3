"""What the sample programs share: trained weights, digits, buffers as the samples of each era have them."""

import numpy as np

from strop.demo_data import held_back_digits, lenet_weights

COUNT = 200


class Torch:
    """A state dict's tensor."""

    def __init__(self, array):
        self._array = array

    def numpy(self):
        return self._array


def get_weights():
    return {name: Torch(array) for name, array in lenet_weights().items()}


def digits():
    images, labels = held_back_digits()
    return images[:COUNT], labels[:COUNT]


def report(predictions, labels):
    right = float(np.mean(np.array(predictions) == labels))
    print(f"accuracy {100 * right:.2f} %")
    assert right >= 0.985, right
