"""Makes tensorflow/saved_models.tar.xz: small SavedModels with inputs and the results that TensorFlow gives.

    python -m tests.frontend.make_saved_models

Needs the package tensorflow, which nothing else in the tests does. ``test_saved_model`` reads the file.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

HERE = Path(__file__).parent / "tensorflow"
RNG = np.random.default_rng(11)


def f32(*shape: int, low: float = -1.0, high: float = 1.0) -> Any:
    return RNG.uniform(low, high, shape).astype(np.float32)


def lenet() -> Any:
    """The deck's LeNet with fewer channels, trained for a step, so that the optimizer's variables are saved too."""
    layers = tf.keras.layers
    model = tf.keras.Sequential([
        tf.keras.Input((28, 28, 1)), layers.Conv2D(3, 5), layers.BatchNormalization(), layers.MaxPooling2D(), layers.Conv2D(4, 5, padding="same", activation="relu"),
        layers.MaxPooling2D(), layers.Flatten(), layers.Dropout(0.5), layers.Dense(8, "relu"), layers.Dense(10, "softmax"),
    ])  # fmt: skip
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(f32(8, 28, 28, 1), RNG.integers(0, 10, 8), verbose=0)
    return model


def recurrent() -> Any:
    """LSTM both ways and GRU: loops over lists of tensors."""
    layers = tf.keras.layers
    return tf.keras.Sequential([
        tf.keras.Input((5, 3)), layers.Bidirectional(layers.LSTM(4, return_sequences=True)), layers.GRU(3), layers.Dense(2),
    ])  # fmt: skip


def sequences() -> Any:
    """LSTM over sequences of any length."""
    layers = tf.keras.layers
    return tf.keras.Sequential([tf.keras.Input((None, 3)), layers.LSTM(4, return_sequences=True), layers.Dense(2)])


class Module(tf.Module):
    """Variables, a lookup, branches and loops that read variables, two signatures."""

    def __init__(self) -> None:
        super().__init__()
        self.table = tf.Variable(f32(7, 4), name="table")
        self.w = tf.Variable(f32(4, 4), name="w")
        self.flags = tf.Variable([True, False, True, True], name="flags")
        self.rows = tf.Variable(tf.constant(f32(2, 4)), name="rows")

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.int32, "ids"), tf.TensorSpec([], tf.float32, "limit")])
    def main(self, ids: Any, limit: Any) -> Any:
        x = tf.reduce_mean(tf.gather(self.table, ids), 1)
        x = tf.cond(limit > 0.0, lambda: x @ self.w, lambda: x - self.w[0])
        _, y = tf.while_loop(lambda k, y: tf.logical_and(k < 9, tf.reduce_max(tf.abs(y)) < limit), lambda k, y: (k + 1, y @ self.w * 2.0), (0, x))
        z = tf.switch_case(tf.shape(ids)[1] % 2, [lambda: y, lambda: y + self.rows[1]])
        pick = tf.raw_ops.ResourceGatherNd(resource=self.rows.handle, indices=[[1, 2]], dtype=tf.float32)
        chosen = tf.switch_case(tf.cast(limit, tf.int32), [lambda: z, lambda: z * self.w[0], lambda: z + 1.0])
        return {"scores": tf.where(self.flags, chosen, 0.0), "picked": pick}

    @tf.function(input_signature=[tf.TensorSpec([2, 4], tf.float32, "x")])
    def double(self, x: Any) -> Any:
        return {"y": 2.0 * x + self.rows}


class Counter(tf.Module):
    """A signature that changes a variable."""

    def __init__(self) -> None:
        super().__init__()
        self.count = tf.Variable(0.0)

    @tf.function(input_signature=[tf.TensorSpec([2], tf.float32, "x")])
    def main(self, x: Any) -> Any:
        self.count.assign_add(1.0)
        return {"y": x + self.count}


class Strings(tf.Module):
    """Ops of strings, which are not read."""

    @tf.function(input_signature=[tf.TensorSpec([2], tf.float32, "x")])
    def main(self, x: Any) -> Any:
        return {"y": tf.strings.to_number(tf.strings.as_string(x)) + tf.cast(tf.strings.length(tf.strings.as_string(x)), tf.float32)}


def _save(archive: tarfile.TarFile, name: str, module: Any, calls: dict[str, Any], signatures: Any = None) -> None:
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text) / name
        if signatures is None:
            module.export(folder, verbose=False) if name != "lenet" else tf.saved_model.save(module, folder)
        else:
            tf.saved_model.save(module, folder, signatures)
        from tensorflow.core.protobuf import saved_model_pb2

        proto = saved_model_pb2.SavedModel()
        proto.ParseFromString((folder / "saved_model.pb").read_bytes())
        for meta in proto.meta_graphs:
            meta.graph_def.ClearField("debug_info")
            for node in (*meta.graph_def.node, *(n for f in meta.graph_def.library.function for n in f.node_def)):
                node.ClearField("experimental_debug_info")
        (folder / "saved_model.pb").write_bytes(proto.SerializeToString())
        loaded = tf.saved_model.load(folder)
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != "fingerprint.pb":
                _add(archive, f"{name}/{path.relative_to(folder)}", path.read_bytes())
        for key, given in calls.items():
            names = loaded.signatures[key].structured_input_signature[1]
            feeds = given if isinstance(given, dict) else {next(iter(names)): given}
            found = loaded.signatures[key](**{k: tf.constant(v) for k, v in feeds.items()})
            for part, arrays in (("in", feeds), ("out", {k: v.numpy() for k, v in found.items()})):
                file = io.BytesIO()
                np.savez(file, **arrays)
                _add(archive, f"{name}/{key}.{part}.npz", file.getvalue())


def _session(archive: tarfile.TarFile) -> None:
    """A model of the first generation: a session's graph with reference variables, sharded, a loop and a branch without functions."""
    v1 = tf.compat.v1
    v1.disable_control_flow_v2()
    with tf.Graph().as_default() as graph, tempfile.TemporaryDirectory() as text, v1.Session(graph=graph) as session:
        x = v1.placeholder(tf.float32, [None, 4], "x")
        w = v1.get_variable("w", [4, 4], initializer=tf.constant_initializer(0.3), use_resource=False)
        b = v1.get_variable("b", [4], initializer=tf.constant_initializer(0.1), use_resource=True)
        _, y = tf.while_loop(lambda k, y: k < 3, lambda k, y: (k + 1, tf.nn.tanh(y @ w + b)), (0, x))
        y = tf.cond(tf.reduce_sum(y) > 0.0, lambda: y * w[0], lambda: y - b)
        session.run(v1.global_variables_initializer())
        folder = Path(text) / "session"
        v1.saved_model.simple_save(session, str(folder), {"x": x}, {"y": y})
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != "fingerprint.pb":
                _add(archive, f"session/{path.relative_to(folder)}", path.read_bytes())
        given = f32(2, 4)
        for part, arrays in (("in", {"x": given}), ("out", {"y": session.run(y, {x: given})})):
            file = io.BytesIO()
            np.savez(file, **arrays)
            _add(archive, f"session/serving_default.{part}.npz", file.getvalue())
    v1.enable_control_flow_v2()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def main() -> None:
    HERE.mkdir(exist_ok=True)
    with tarfile.open(HERE / "saved_models.tar.xz", "w:xz") as archive:
        _save(archive, "lenet", lenet(), {"serving_default": f32(3, 28, 28, 1)})
        _save(archive, "recurrent", recurrent(), {"serving_default": f32(2, 5, 3)})
        _save(archive, "sequences", sequences(), {"serving_default": f32(2, 5, 3)})
        module = Module()
        ids = RNG.integers(0, 7, (2, 3)).astype(np.int32)
        _save(archive, "module", module, {"serving_default": {"ids": ids, "limit": np.float32(1.5)}, "double": {"x": f32(2, 4)}},
              {"serving_default": module.main, "double": module.double})  # fmt: skip
        _session(archive)
        for name, refused in (("counter", Counter()), ("strings", Strings())):
            _save(archive, name, refused, {}, {"serving_default": refused.main})


if __name__ == "__main__":
    main()
