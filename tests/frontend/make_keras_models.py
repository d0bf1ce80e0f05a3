"""Makes tensorflow/keras.tar.xz: small Keras models in all of Keras's files, with inputs and the results that Keras gives.

    python -m tests.frontend.make_keras_models

Needs the packages tensorflow and tf_keras (Keras 2), which nothing else in the tests does. ``test_keras`` reads the file.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras as keras3
import numpy as np
import tf_keras as keras2

HERE = Path(__file__).parent / "tensorflow"
RNG = np.random.default_rng(5)
#: Layers by the shape of their operand without the batch: name of the case, what makes the layer.
LAYERS: dict[str, tuple[tuple[int, ...], Callable[[Any], Any]]] = {
    "Dense": ((3, 4), lambda k: k.Dense(5, activation="relu")),
    "Dense no bias": ((4,), lambda k: k.Dense(5, use_bias=False)),
    "Activation": ((6,), lambda k: k.Activation("softplus")),
    "hard_sigmoid": ((6,), lambda k: k.Activation("hard_sigmoid")),
    "gelu": ((6,), lambda k: k.Activation("gelu")),
    "swish": ((6,), lambda k: k.Activation("swish")),
    "softmax": ((2, 6), lambda k: k.Activation("softmax")),
    "ReLU": ((6,), lambda k: k.ReLU(1.0, 0.1, 0.2)),
    "ReLU6": ((6,), lambda k: k.ReLU(6.0)),
    "LeakyReLU": ((6,), lambda k: k.LeakyReLU(0.2)),
    "ELU": ((6,), lambda k: k.ELU(0.7)),
    "PReLU": ((3, 4, 2), lambda k: k.PReLU("ones", shared_axes=[1, 2])),
    "Softmax": ((3, 4), lambda k: k.Softmax(1)),
    "Dropout": ((4,), lambda k: k.Dropout(0.5)),
    "Flatten": ((3, 4, 2), lambda k: k.Flatten()),
    "Flatten channels_first": ((2, 3, 4), lambda k: k.Flatten("channels_first")),
    "Reshape": ((3, 4), lambda k: k.Reshape((2, -1))),
    "Permute": ((3, 4, 2), lambda k: k.Permute((3, 1, 2))),
    "RepeatVector": ((3,), lambda k: k.RepeatVector(4)),
    "BatchNormalization": ((3, 4, 2), lambda k: k.BatchNormalization()),
    "BatchNormalization axis": ((2, 3, 4), lambda k: k.BatchNormalization(1, scale=False)),
    "BatchNormalization rows": ((5,), lambda k: k.BatchNormalization(center=False, epsilon=0.1)),
    "LayerNormalization": ((3, 4), lambda k: k.LayerNormalization()),
    "LayerNormalization axes": ((3, 4), lambda k: k.LayerNormalization([1, 2], center=False)),
    "GroupNormalization": ((3, 4, 6), lambda k: k.GroupNormalization(3)),
    "UnitNormalization": ((3, 4), lambda k: k.UnitNormalization()),
    "Rescaling": ((3, 4), lambda k: k.Rescaling(0.5, -1.0)),
    "Conv1D": ((7, 3), lambda k: k.Conv1D(4, 3, padding="causal", dilation_rate=2)),
    "Conv2D": ((7, 6, 4), lambda k: k.Conv2D(6, 3, 2, "same", activation="tanh")),
    "Conv2D groups": ((5, 5, 4), lambda k: k.Conv2D(6, (1, 3), groups=2, use_bias=False)),
    "Conv3D": ((4, 5, 5, 2), lambda k: k.Conv3D(3, 2)),
    "DepthwiseConv2D": ((6, 7, 3), lambda k: k.DepthwiseConv2D(3, 2, "same", depth_multiplier=2)),
    "DepthwiseConv1D": ((7, 3), lambda k: k.DepthwiseConv1D(3)),
    "SeparableConv2D": ((6, 7, 3), lambda k: k.SeparableConv2D(4, 3, padding="same")),
    "SeparableConv1D": ((7, 3), lambda k: k.SeparableConv1D(4, 3)),
    "Conv2DTranspose": ((4, 5, 3), lambda k: k.Conv2DTranspose(2, 3, 2, "same")),
    "Conv2DTranspose valid": ((4, 5, 3), lambda k: k.Conv2DTranspose(2, 3, 2)),
    "Conv1DTranspose": ((4, 3), lambda k: k.Conv1DTranspose(2, 3, 2)),
    "Conv3DTranspose": ((2, 3, 3, 2), lambda k: k.Conv3DTranspose(2, 2, 2)),
    "MaxPooling1D": ((7, 3), lambda k: k.MaxPooling1D(2)),
    "MaxPooling2D": ((7, 6, 3), lambda k: k.MaxPooling2D(3, 2, "same")),
    "MaxPooling3D": ((4, 4, 4, 2), lambda k: k.MaxPooling3D(2)),
    "AveragePooling1D": ((7, 3), lambda k: k.AveragePooling1D(2)),
    "AveragePooling2D": ((7, 6, 3), lambda k: k.AveragePooling2D(3, 2, "same")),
    "AveragePooling3D": ((4, 4, 4, 2), lambda k: k.AveragePooling3D(2)),
    "GlobalMaxPooling1D": ((5, 3), lambda k: k.GlobalMaxPooling1D()),
    "GlobalMaxPooling2D": ((5, 4, 3), lambda k: k.GlobalMaxPooling2D(keepdims=True)),
    "GlobalMaxPooling3D": ((2, 3, 4, 3), lambda k: k.GlobalMaxPooling3D()),
    "GlobalAveragePooling1D": ((5, 3), lambda k: k.GlobalAveragePooling1D()),
    "GlobalAveragePooling2D": ((3, 5, 4), lambda k: k.GlobalAveragePooling2D("channels_first")),
    "GlobalAveragePooling3D": ((2, 3, 4, 3), lambda k: k.GlobalAveragePooling3D()),
    "ZeroPadding1D": ((5, 3), lambda k: k.ZeroPadding1D((1, 2))),
    "ZeroPadding2D": ((5, 4, 3), lambda k: k.ZeroPadding2D(((1, 0), (0, 2)))),
    "ZeroPadding3D": ((2, 3, 4, 2), lambda k: k.ZeroPadding3D(1)),
    "Cropping1D": ((5, 3), lambda k: k.Cropping1D((1, 2))),
    "Cropping2D": ((5, 4, 3), lambda k: k.Cropping2D(((1, 0), (0, 2)))),
    "Cropping3D": ((3, 3, 4, 2), lambda k: k.Cropping3D(1)),
    "UpSampling1D": ((4, 3), lambda k: k.UpSampling1D(3)),
    "UpSampling2D": ((3, 4, 2), lambda k: k.UpSampling2D((2, 3))),
    "UpSampling2D bilinear": ((3, 4, 2), lambda k: k.UpSampling2D(2, interpolation="bilinear")),
    "UpSampling3D": ((2, 2, 3, 2), lambda k: k.UpSampling3D(2)),
    "Resizing": ((4, 6, 2), lambda k: k.Resizing(3, 9)),
    "CenterCrop": ((6, 7, 2), lambda k: k.CenterCrop(3, 4)),
    "SimpleRNN": ((5, 3), lambda k: k.SimpleRNN(4)),
    "LSTM": ((5, 3), lambda k: k.LSTM(4, return_sequences=True)),
    "LSTM backwards": ((5, 3), lambda k: k.LSTM(4, return_sequences=True, go_backwards=True)),
    "LSTM hard": ((5, 3), lambda k: k.LSTM(4, recurrent_activation="hard_sigmoid", use_bias=False)),
    "GRU": ((5, 3), lambda k: k.GRU(4)),
    "GRU before": ((5, 3), lambda k: k.GRU(4, reset_after=False, return_sequences=True)),
    "Bidirectional": ((5, 3), lambda k: k.Bidirectional(k.LSTM(4, return_sequences=True))),
    "Bidirectional sum": ((5, 3), lambda k: k.Bidirectional(k.GRU(4), merge_mode="sum")),
    "Bidirectional mul": ((5, 3), lambda k: k.Bidirectional(k.SimpleRNN(4, return_sequences=True), merge_mode="mul")),
    "TimeDistributed": ((4, 5, 6, 2), lambda k: k.TimeDistributed(k.Conv2D(3, 3))),
}
#: Layers that only Keras 3 has.
NEW: dict[str, tuple[tuple[int, ...], Callable[[Any], Any]]] = {
    "relu6": ((6,), lambda k: k.Activation("relu6")),
    "silu": ((6,), lambda k: k.Activation("silu")),
    "leaky_relu": ((6,), lambda k: k.Activation("leaky_relu")),
    "hard_silu": ((6,), lambda k: k.Activation("hard_silu")),
    "mish": ((6,), lambda k: k.Activation("mish")),
    "log_softmax": ((6,), lambda k: k.Activation("log_softmax")),
    "RMSNormalization": ((3, 4), lambda k: k.RMSNormalization()),
}
#: And Keras 2 alone.
OLD: dict[str, tuple[tuple[int, ...], Callable[[Any], Any]]] = {"ThresholdedReLU": ((6,), lambda k: k.ThresholdedReLU(0.5))}


def f32(*shape: int) -> Any:
    return RNG.uniform(-2, 2, shape).astype(np.float32)


def merging(K: Any) -> Any:  # noqa: N803
    """Two inputs, two outputs, every way to merge, a layer that is called twice, attention, a lookup."""
    L = K.layers  # noqa: N806
    a, b, ids = K.Input((4, 6), name="a"), K.Input((4, 6), name="b"), K.Input((5,), dtype="int32", name="ids")
    shared = L.Dense(6, name="shared")
    x, y = shared(a), shared(b)
    parts = [L.Add()([x, y]), L.Subtract()([x, y]), L.Multiply()([x, y]), L.Maximum()([x, y]), L.Minimum()([x, y]), L.Average()([x, y])]
    joined = L.Concatenate(axis=-1)(parts)
    found = L.Embedding(9, 6)(ids)
    attended = L.MultiHeadAttention(2, 3)(x, found)
    causal = L.MultiHeadAttention(2, 3, value_dim=5, use_bias=False)(y, y, use_causal_mask=True)
    plain = L.Attention()([x, found])
    similar = L.Dot(axes=(1, 1), normalize=True)([L.Flatten()(attended), L.Flatten()(causal)])
    second = L.Dot(axes=(2, 2))([plain, y])
    return K.Model([a, b, ids], {"joined": joined, "similar": similar} if K is keras3 else [joined, similar, L.Dot(axes=(2, 1))([second, x])])


def nested(K: Any) -> Any:  # noqa: N803
    """Models in a model, one of them frozen, with layers whose names come again; states handed from layer to layer."""
    L = K.layers  # noqa: N806
    backbone = K.Sequential([K.Input((8, 8, 3)), L.Conv2D(4, 3, name="conv"), L.BatchNormalization(name="bn"), L.ReLU(), L.GlobalAveragePooling2D()], name="backbone")
    backbone.trainable = False
    x = K.Input((8, 8, 3), name="image")
    tail_in = K.Input((4,))
    tail = K.Model(tail_in, L.Dense(3, name="dense")(L.Dense(5, "relu", name="conv")(tail_in)), name="tail")
    steps = L.Reshape((4, 1))(backbone(x))
    _, h, c = L.LSTM(3, return_state=True, name="encoder")(steps)
    again = L.LSTM(3, return_sequences=True, name="decoder")(steps, initial_state=[h, c])
    rows = L.TimeDistributed(L.Dense(2))(again)
    return K.Model(x, [tail(backbone(x)), rows])


def normalizing(K: Any) -> Any:  # noqa: N803
    """Normalization that was adapted."""
    layer = K.layers.Normalization()
    layer.adapt(f32(30, 4) * 3 + 1)
    return K.Sequential([K.Input((4,)), layer, K.layers.Dense(2)])


def operators(K: Any) -> Any:  # noqa: N803
    """Operators on tensors, which become layers."""
    a, b = K.Input((4,), name="a"), K.Input((4,), name="b")
    x = K.layers.Dense(4)(a)
    found = (x + b) * 2.0 - a
    if K is keras3:
        found = keras3.ops.divide(found / 3.0, a[:, 1:2])[:, 1:]
    return K.Model([a, b], [found])


def _randomized(model: Any) -> Any:
    """All weights anew: moving means and scales too."""
    model.set_weights([RNG.uniform(0.4, 1.2, w.shape).astype(w.dtype) if w.dtype.kind == "f" and w.size else w for w in model.get_weights()])
    return model


def _save(archive: tarfile.TarFile, name: str, model: Any, suffixes: tuple[str, ...], shapes: list[tuple[int, ...]], ints: int = -1) -> None:
    feeds = [RNG.integers(0, 9, s).astype(np.int32) if k == ints else f32(*s) for k, s in enumerate(shapes)]
    found = model.predict(feeds if len(feeds) > 1 else feeds[0], verbose=0)
    arrays = list(found.values()) if isinstance(found, dict) else list(found) if isinstance(found, (list, tuple)) else [found]
    file = io.BytesIO()
    np.savez(file, **{f"in{k}": a for k, a in enumerate(feeds)}, **{f"out{k}": a for k, a in enumerate(arrays)})
    _add(archive, f"{name}/io.npz", file.getvalue())
    with tempfile.TemporaryDirectory() as folder:
        for suffix in suffixes:
            path = Path(folder) / f"net.{suffix}"
            model.save(path)
            _add(archive, f"{name}/net.{suffix}", path.read_bytes())


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def main() -> None:
    HERE.mkdir(exist_ok=True)
    with tarfile.open(HERE / "keras.tar.xz", "w:xz") as archive:
        for major, K, cases in ((3, keras3, LAYERS | NEW), (2, keras2, OLD | {k: LAYERS[k] for k in ("hard_sigmoid", "GRU", "LSTM hard", "LeakyReLU")})):  # noqa: N806
            for name, (shape, make) in cases.items():
                model = _randomized(K.Sequential([K.layers.Input(shape) if K is keras3 else K.Input(shape), make(K.layers)]))
                _save(archive, f"{major}/{name}", model, ("keras",) if K is keras3 else ("h5",), [(2, *shape)])
            both = ("keras", "h5")
            _save(archive, f"{major}/merging", _randomized(merging(K)), both, [(2, 4, 6), (2, 4, 6), (2, 5)], 2)
            _save(archive, f"{major}/nested", _randomized(nested(K)), both, [(2, 8, 8, 3)])
            _save(archive, f"{major}/normalizing", normalizing(K), both, [(3, 4)])
            _save(archive, f"{major}/operators", _randomized(operators(K)), both, [(2, 4), (2, 4)])
        model = keras3.Sequential([keras3.Input((3,)), keras3.layers.Lambda(lambda x: x * 2)])
        _save(archive, "3/refused lambda", model, ("keras", "h5"), [(2, 3)])


if __name__ == "__main__":
    main()
