# ruff: noqa: B008 - the op of a case is looked up when the case is written down
"""Makes tensorflow/ops.tar.xz: small graphs of TensorFlow's ops with inputs and the results that TensorFlow gives.

    python -m tests.frontend.make_tensorflow_ops

Needs the package tensorflow, which nothing else in the tests does. ``test_saved_model_ops`` reads the file.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

HERE = Path(__file__).parent / "tensorflow"
RNG = np.random.default_rng(7)
Raw = tf.raw_ops
CASES: dict[str, tuple[Callable[..., Any], list[Any]]] = {}


def f32(*shape: int, low: float = -2.0, high: float = 2.0) -> Any:
    return RNG.uniform(low, high, shape).astype(np.float32)


def i32(*shape: int, low: int = -9, high: int = 9) -> Any:
    return RNG.integers(low, high, shape).astype(np.int32)


def case(name: str, function: Callable[..., Any], *inputs: Any) -> None:
    CASES[name] = (function, list(inputs))


for _name in ("Abs", "Atan", "Asinh", "Ceil", "Cos", "Cosh", "Elu", "Erf", "Erfc", "Exp", "Expm1", "Floor", "Neg", "Relu", "Relu6", "Rint", "Round",
              "Selu", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Square", "Tan", "Tanh", "IsNan", "IsInf", "IsFinite", "Snapshot",
              "StopGradient", "PreventGradient", "ZerosLike", "OnesLike"):  # fmt: skip
    def _one(x: Any, op: Any = getattr(Raw, _name), key: str = {"Relu": "features", "Relu6": "features", "Elu": "features", "Selu": "features",
             "Softplus": "features", "Softsign": "features", "StopGradient": "input", "PreventGradient": "input", "Snapshot": "input"}.get(_name, "x")) -> Any:  # fmt: skip
        return op(**{key: x})
    case(_name, _one, f32(3, 5))
for _name in ("Acos", "Asin", "Atanh"):
    case(_name, lambda x, op=getattr(Raw, _name): op(x=x), f32(3, 5, low=-0.9, high=0.9))
for _name in ("Acosh", "Inv", "Log", "Log1p", "Reciprocal", "Rsqrt", "Sqrt"):
    case(_name, lambda x, op=getattr(Raw, _name): op(x=x), f32(3, 5, low=1.1, high=4))
for _name in ("Add", "AddV2", "Atan2", "Equal", "FloorDiv", "FloorMod", "Greater", "GreaterEqual", "Less", "LessEqual", "Maximum", "Minimum", "Mul",
              "NotEqual", "RealDiv", "Div", "Sub", "SquaredDifference", "DivNoNan", "MulNoNan", "Xdivy"):  # fmt: skip
    if _name == "Atan2":
        case(_name, lambda a, b: Raw.Atan2(y=a, x=b), f32(3, 4), f32(4))
    else:
        case(_name, lambda a, b, op=getattr(Raw, _name): op(x=a, y=b), f32(3, 4), f32(4, low=0.5))
for _name in ("Xlogy", "Xlog1py", "Pow"):
    case(_name, lambda a, b, op=getattr(Raw, _name): op(x=a, y=b), f32(3, 4, low=0), f32(4, low=0.5))
case("DivNoNan zero", lambda a, b: Raw.DivNoNan(x=a, y=b), f32(2, 3), np.array([0, 1, 2], np.float32))
for _name in ("FloorDiv", "FloorMod", "TruncateDiv", "TruncateMod", "Mod", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "LeftShift", "RightShift"):
    case(f"{_name} i32", lambda a, b, op=getattr(Raw, _name): op(x=a, y=b), i32(3, 4, low=-99 if "Div" in _name or "Mod" in _name else 0, high=99), i32(4, low=1, high=5))
case("Invert", lambda x: Raw.Invert(x=x), i32(4))
case("LogicalAnd", lambda a, b: Raw.LogicalAnd(x=a, y=b), RNG.random((3, 4)) > 0.5, RNG.random(4) > 0.5)
case("LogicalOr", lambda a, b: Raw.LogicalOr(x=a, y=b), RNG.random((3, 4)) > 0.5, RNG.random(4) > 0.5)
case("LogicalNot", lambda a: Raw.LogicalNot(x=a), RNG.random((3, 4)) > 0.5)
case("AddN", lambda a, b, c: Raw.AddN(inputs=[a, b, c]), f32(2, 3), f32(2, 3), f32(2, 3))
case("LeakyRelu", lambda x: tf.nn.leaky_relu(x, 0.3), f32(3, 4))
case("ClipByValue", lambda x: Raw.ClipByValue(t=x, clip_value_min=-0.5, clip_value_max=1.0), f32(3, 4))
case("Select", lambda c, a, b: Raw.Select(condition=c, x=a, y=b), RNG.random(3) > 0.5, f32(3, 4), f32(3, 4))
case("SelectV2", lambda c, a, b: tf.where(c, a, b), RNG.random((3, 1)) > 0.5, f32(3, 4), f32(4))
case("Cast", lambda x: (tf.cast(x, tf.int32), tf.cast(x, tf.float64), tf.cast(x > 0, tf.float32)), f32(3, 4, low=-20, high=20))
case("Bucketize", lambda x: Raw.Bucketize(input=x, boundaries=[-1.0, 0.0, 1.5]), f32(9))
case("FakeQuantWithMinMaxArgs", lambda x: Raw.FakeQuantWithMinMaxArgs(inputs=x, min=-1.5, max=1.2, num_bits=4), f32(4, 5))
case("FakeQuantWithMinMaxVars", lambda x: Raw.FakeQuantWithMinMaxVars(inputs=x, min=-1.1, max=1.9, narrow_range=True), f32(4, 5))
case("FakeQuantWithMinMaxVarsPerChannel", lambda x: Raw.FakeQuantWithMinMaxVarsPerChannel(inputs=x, min=[-1.0, -2.0, 0.0], max=[1.0, 1.0, 2.0]), f32(4, 3))
case("IdentityN", lambda a, b: Raw.IdentityN(input=[a, b]), f32(2), i32(3))
case("EnsureShape", lambda x: Raw.EnsureShape(input=x, shape=[2, 3]), f32(2, 3))
case("CheckNumerics", lambda x: Raw.CheckNumerics(tensor=x, message="bad"), f32(2, 3))
case("PlaceholderWithDefault", lambda x: x * Raw.PlaceholderWithDefault(input=np.float32(3), shape=[]), f32(2, 3))
case("Const kinds", lambda x: (x + tf.constant(2.0, shape=[2, 3]), tf.constant([1, 2, 3]) + tf.cast(x, tf.int32), tf.constant(True), tf.constant(1.5, tf.float16) * tf.cast(x, tf.float16), tf.constant([1, 2], tf.int64)), f32(2, 3))

# ---- products, convolutions, pools

W = f32(3, 3, 4, 6)
case("Conv2D", lambda x: tf.nn.conv2d(x, W, [1, 2, 2, 1], "SAME"), f32(2, 7, 8, 4))
case("Conv2D dilated", lambda x: tf.nn.conv2d(x, W, 1, "VALID", dilations=[1, 2, 2, 1]), f32(1, 7, 8, 4))
case("Conv2D explicit", lambda x: Raw.Conv2D(input=x, filter=W, strides=[1, 1, 1, 1], padding="EXPLICIT", explicit_paddings=[0, 0, 1, 2, 0, 1, 0, 0]), f32(1, 6, 5, 4))
case("Conv2D groups", lambda x: tf.nn.conv2d(x, W, 1, "SAME"), f32(1, 5, 5, 8))
case("Conv3D", lambda x: tf.nn.conv3d(x, f32(2, 3, 3, 2, 3), [1, 1, 2, 1, 1], "SAME"), f32(1, 4, 5, 5, 2))
case("DepthwiseConv2dNative", lambda x: tf.nn.depthwise_conv2d(x, f32(3, 3, 4, 2), [1, 2, 2, 1], "SAME"), f32(1, 7, 6, 4))
case("Conv2DBackpropInput", lambda x: tf.nn.conv2d_transpose(x, f32(3, 3, 5, 4), [1, 9, 8, 5], [1, 2, 2, 1], "SAME"), f32(1, 5, 4, 4))
case("Conv3DBackpropInputV2", lambda x: tf.nn.conv3d_transpose(x, f32(2, 2, 2, 3, 2), [1, 4, 6, 4, 3], [1, 2, 2, 2, 1], "VALID"), f32(1, 2, 3, 2, 2))
case("BiasAdd", lambda x: tf.nn.bias_add(x, f32(4)), f32(2, 3, 3, 4))
case("MatMul", lambda a: tf.matmul(a, f32(5, 4), transpose_b=True), f32(3, 4))
case("BatchMatMulV2", lambda a, b: tf.matmul(a, b, adjoint_a=True), f32(2, 4, 3), f32(2, 4, 5))
case("BatchMatMul", lambda a, b: Raw.BatchMatMul(x=a, y=b), f32(2, 3, 4), f32(2, 4, 5))
case("BatchMatMulV3", lambda a, b: Raw.BatchMatMulV3(x=a, y=b, Tout=tf.float32), f32(2, 3, 4), f32(2, 4, 5))
case("Einsum", lambda a, b: (tf.einsum("abc,cde->abde", a, b), tf.einsum("abc,dce->bea", a, b[None, :, :, 0])), f32(2, 3, 4), f32(4, 5, 2))
case("Einsum attention", lambda a, b: tf.einsum("aecd,abcd->acbe", a, b), f32(2, 5, 3, 4), f32(2, 6, 3, 4))
case("MaxPool", lambda x: tf.nn.max_pool2d(x, 3, 2, "SAME"), f32(1, 7, 8, 3))
case("MaxPoolV2", lambda x: Raw.MaxPoolV2(input=x, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="VALID"), f32(1, 7, 8, 3))
case("AvgPool", lambda x: tf.nn.avg_pool2d(x, 3, 2, "SAME"), f32(1, 7, 8, 3))
case("MaxPool3D", lambda x: tf.nn.max_pool3d(x, 2, 2, "VALID"), f32(1, 4, 5, 6, 2))
case("AvgPool3D", lambda x: tf.nn.avg_pool3d(x, 2, 2, "SAME"), f32(1, 4, 5, 6, 2))
case("Softmax", lambda x: (tf.nn.softmax(x), tf.nn.log_softmax(x)), f32(3, 5))
for _name in ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"):
    case(_name, lambda x, op=getattr(Raw, _name): op(x=x, scale=f32(4), offset=f32(4), mean=f32(4), variance=f32(4, low=0.5), is_training=False).y, f32(2, 3, 3, 4))
case("LRN", lambda x: tf.nn.lrn(x, 2, 1.0, 0.5, 0.7), f32(1, 3, 3, 8))
case("L2Loss", lambda x: tf.nn.l2_loss(x), f32(3, 4))

# ---- shapes

case("Reshape", lambda x: tf.reshape(x, [4, -1]), f32(2, 6))
case("Squeeze", lambda x: (tf.squeeze(x, [1]), tf.squeeze(x)), f32(2, 1, 3, 1))
case("ExpandDims", lambda x: tf.expand_dims(x, -1), f32(2, 3))
case("Transpose", lambda x: tf.transpose(x, [2, 0, 1]), f32(2, 3, 4))
case("ConcatV2", lambda a, b: tf.concat([a, b], -1), f32(2, 3), f32(2, 2))
case("Concat", lambda a, b: Raw.Concat(concat_dim=0, values=[a, b]), f32(2, 3), f32(1, 3))
case("Pack", lambda a, b: tf.stack([a, b], 1), f32(2, 3), f32(2, 3))
case("Unpack", lambda x: tf.unstack(x, axis=1), f32(2, 3))
case("Split", lambda x: tf.split(x, 3, 1), f32(2, 6))
case("SplitV", lambda x: tf.split(x, [1, -1, 2], 1), f32(2, 6))
case("Slice", lambda x: tf.slice(x, [0, 1], [-1, 2]), f32(3, 4))
case("StridedSlice", lambda x: (x[:, 1::2], x[..., tf.newaxis, -1], x[1, ::-1], x[:2, 1:-1, None]), f32(3, 5, 2))
case("ReverseV2", lambda x: tf.reverse(x, [1]), f32(3, 4))
case("Roll", lambda x: tf.roll(x, [1, -2], [0, 1]), f32(3, 5))
case("Pad", lambda x: (tf.pad(x, [[1, 0], [0, 2]]), tf.pad(x, [[0, 1], [1, 0]], constant_values=3.5)), f32(3, 4))
case("MirrorPad", lambda x: (tf.pad(x, [[1, 0], [2, 1]], "REFLECT"), tf.pad(x, [[1, 2], [0, 4]], "SYMMETRIC")), f32(3, 4))
case("Tile", lambda x: tf.tile(x, [2, 3]), f32(2, 3))
case("Fill", lambda x: tf.fill([2, 3], x[0]), f32(3))
case("BroadcastTo", lambda x: tf.broadcast_to(x, [2, 3, 4]), f32(3, 1))
case("ResizeBilinear", lambda x: (tf.image.resize(x, [6, 9]), Raw.ResizeBilinear(images=x, size=[5, 4], align_corners=True), Raw.ResizeBilinear(images=x, size=[5, 4])), f32(1, 3, 4, 2))
case("ResizeNearestNeighbor", lambda x: (tf.image.resize(x, [6, 9], "nearest"), Raw.ResizeNearestNeighbor(images=x, size=[5, 7], align_corners=True)), f32(1, 3, 4, 2))
case("DepthToSpace", lambda x: tf.nn.depth_to_space(x, 2), f32(1, 2, 3, 8))
case("SpaceToDepth", lambda x: tf.nn.space_to_depth(x, 2), f32(1, 4, 6, 2))
case("SpaceToBatchND", lambda x: tf.space_to_batch(x, [2, 2], [[1, 0], [0, 1]]), f32(1, 3, 5, 2))
case("BatchToSpaceND", lambda x: tf.batch_to_space(x, [2, 2], [[0, 1], [1, 0]]), f32(4, 2, 3, 2))
case("Shape", lambda x: (Raw.Shape(input=x), Raw.Shape(input=x, out_type=tf.int64), Raw.Size(input=x), Raw.Rank(input=x)), f32(2, 3))
case("ShapeN", lambda a, b: Raw.ShapeN(input=[a, b]), f32(2, 3), f32(4))
case("Range", lambda x: (x + tf.range(1, 7, 2, tf.float32), tf.linspace(0.0, 1.0, 5)), f32(2, 3))
case("LinSpace", lambda x: x * Raw.LinSpace(start=0.0, stop=1.0, num=5), f32(5))
case("BroadcastArgs", lambda a, b: tf.broadcast_to(a, tf.broadcast_dynamic_shape(tf.shape(a), tf.shape(b))), f32(3, 1), f32(4))
case("Mean", lambda x: (tf.reduce_mean(x, [1, 2]), tf.reduce_mean(x, -1, keepdims=True), tf.reduce_mean(x)), f32(2, 3, 4))
case("Sum", lambda x: (tf.reduce_sum(x, 0), tf.reduce_max(x, 1), tf.reduce_min(x, [0, 1]), tf.reduce_prod(x, 2), tf.math.reduce_euclidean_norm(x, 1)), f32(2, 3, 4))
case("Any", lambda x: (tf.reduce_any(x > 1, 1), tf.reduce_all(x > -1, 0)), f32(3, 4))

# ---- indices

case("GatherV2", lambda x, i: (tf.gather(x, i, axis=1), tf.gather(x, i)), f32(5, 6), i32(2, 2, low=0, high=5))
case("GatherV2 batch", lambda x, i: tf.gather(x, i, axis=1, batch_dims=1), f32(2, 6), i32(2, 3, low=0, high=6))
case("Gather", lambda x, i: Raw.Gather(params=x, indices=i), f32(5, 6), i32(3, low=0, high=5))
case("GatherNd", lambda x, i: tf.gather_nd(x, i), f32(5, 6), i32(3, 2, low=0, high=5))
case("ScatterNd", lambda i, u: tf.scatter_nd(i, u, [6, 2]), np.array([[1], [3], [1]], np.int32), f32(3, 2))
for _name in ("Update", "Add", "Max", "Min"):
    case(f"TensorScatter{_name}", lambda x, u, op=getattr(Raw, f"TensorScatter{_name}"): op(tensor=x, indices=[[1], [3]], updates=u), f32(5, 2), f32(2, 2))
case("ArgMax", lambda x: (tf.argmax(x, 1), tf.argmin(x, 0, tf.int32)), f32(3, 4))
case("TopKV2", lambda x: tf.math.top_k(x, 2), f32(3, 5))
case("OneHot", lambda i: (tf.one_hot(i, 4), tf.one_hot(i, 3, 2.0, -1.0, axis=0)), i32(5, low=-1, high=4))
case("Where", lambda x: tf.where(x > 0), f32(3, 4))
case("Cumsum", lambda x: (tf.cumsum(x, 1, exclusive=True), tf.cumsum(x, 0, reverse=True), tf.math.cumprod(x, 1)), f32(3, 4))
case("MatrixBandPart", lambda x: (tf.linalg.band_part(x, 1, 0), tf.linalg.band_part(x, -1, 1), tf.linalg.band_part(x, 0, -1)), f32(4, 5))
case("MatrixDiag", lambda x: Raw.MatrixDiag(diagonal=x), f32(2, 3))
case("InvertPermutation", lambda x: x + tf.cast(tf.math.invert_permutation([2, 0, 1]), tf.float32), f32(3))

# ---- control flow


def _if(x: Any) -> Any:
    return tf.cond(tf.reduce_sum(x) > 0, lambda: x * 2.0, lambda: x - 1.0)


def _while(x: Any) -> Any:
    return tf.while_loop(lambda y, n: tf.reduce_sum(y) < 100.0, lambda y, n: (y * 2.0, n + 1), (x, 0))


def _scan(x: Any) -> Any:
    """Running sums, through lists of tensors and a loop of known length."""
    array = tf.TensorArray(tf.float32, 4, element_shape=[3])
    rows = tf.TensorArray(tf.float32, 4, clear_after_read=False).unstack(x)
    _, total, array = tf.while_loop(
        lambda k, t, a: k < 4, lambda k, t, a: (k + 1, t + rows.read(k), a.write(k, t + rows.read(k))), (0, tf.zeros([3]), array)
    )
    return array.stack(), total


def _search(x: Any) -> Any:
    """Rows until one of a negative sum, through lists and a loop whose length only data tells."""
    array = tf.TensorArray(tf.float32, 5, element_shape=[3])
    rows = tf.TensorArray(tf.float32, 5, clear_after_read=False).unstack(x)
    k, array = tf.while_loop(lambda k, a: tf.reduce_sum(x[0]) + tf.cast(k, tf.float32) < 3.0, lambda k, a: (k + 1, a.write(k, rows.read(k) * 2.0)), (0, array))
    return k, array.stack()


for _positive in (True, False):
    case(f"StatelessIf {_positive}", _if, f32(2, 3, low=0.5) if _positive else f32(2, 3, high=-0.5))
    case(f"old Switch {_positive}", _if, f32(2, 3, low=0.5) if _positive else f32(2, 3, high=-0.5))
case("StatelessIf nested", lambda x: tf.cond(x[0] > 0, lambda: tf.cond(x[1] > 0, lambda: x, lambda: -x), lambda: x * 0.5), np.array([1, -1], np.float32))
case("old Switch nested", lambda x: tf.cond(x[0] > 0, lambda: tf.cond(x[1] > 0, lambda: x, lambda: -x), lambda: x * 0.5), np.array([1, -1], np.float32))
case("old Switch constants", lambda x: tf.cond(x[0] > 0, lambda: tf.constant(3.0), lambda: tf.constant(4.0)), np.array([-1, -1], np.float32))
case("StatelessCase", lambda x, i: tf.switch_case(i, [lambda: x, lambda: x * 2.0, lambda: -x]), f32(3), np.asarray(1, np.int32))
case("StatelessWhile", _while, f32(2, 3, low=0.5))
case("old Exit", _while, f32(2, 3, low=0.5))
case("StatelessWhile lists", _scan, f32(4, 3))
case("old Exit lists", _scan, f32(4, 3))
case("StatelessWhile search", _search, f32(5, 3, low=0.1, high=0.3))


def _pushed(x: Any) -> Any:
    """A list that grows by known elements."""
    held = Raw.EmptyTensorList(element_shape=[3], max_num_elements=9, element_dtype=tf.float32)
    for row in (0, 1, 0):
        held = Raw.TensorListPushBack(input_handle=held, tensor=x[row])
    return Raw.TensorListStack(input_handle=held, element_shape=[3], element_dtype=tf.float32), Raw.TensorListLength(input_handle=held)


case("TensorListPushBack", _pushed, f32(2, 3))


def _size(x: Any) -> Any:
    array = tf.TensorArray(tf.float32, 4).unstack(x)
    return Raw.TensorArraySizeV3(handle=array.handle, flow_in=array.flow), x


case("old TensorArraySizeV3", _size, f32(4, 3))
case("PartitionedCall", lambda x: tf.function(lambda y: (y + 1.0, y * 2.0))(x), f32(3))


def graph_of(name: str) -> Any:
    """A case's GraphDef and what its function gives."""
    function, arrays = CASES[name]
    specs = [tf.TensorSpec(a.shape, a.dtype, name=f"in{k}") for k, a in enumerate(arrays)]

    def named(*inputs: Any) -> Any:
        found = tf.nest.flatten(function(*inputs))
        return [tf.identity(f, name=f"out{k}") for k, f in enumerate(found) if isinstance(f, tf.Tensor)]

    (tf.compat.v1.disable_control_flow_v2 if name.startswith("old") else tf.compat.v1.enable_control_flow_v2)()
    with tf.Graph().as_default() as graph:
        placeholders = [tf.compat.v1.placeholder(s.dtype, s.shape, s.name) for s in specs]
        results = named(*placeholders)
        with tf.compat.v1.Session(graph=graph) as session:
            values = session.run(results, dict(zip(placeholders, arrays, strict=True)))
    wanted = [result.op.name for result in results]
    return tf.compat.v1.graph_util.extract_sub_graph(graph.as_graph_def(), wanted), values


def main() -> None:
    HERE.mkdir(exist_ok=True)
    with tarfile.open(HERE / "ops.tar.xz", "w:xz") as archive:
        for name in CASES:
            proto, values = graph_of(name)
            for node in (*proto.node, *(n for f in proto.library.function for n in f.node_def)):
                node.ClearField("experimental_debug_info")
            parts = {f"in{k}": a for k, a in enumerate(CASES[name][1])} | {f"out{k}": a for k, a in enumerate(values)}
            for key, array in {"graph": np.frombuffer(proto.SerializeToString(), np.uint8), **parts}.items():
                file = io.BytesIO()
                np.save(file, array)
                member = tarfile.TarInfo(f"{name}/{key}.npy")
                member.size = file.tell()
                file.seek(0)
                archive.addfile(member, file)


if __name__ == "__main__":
    main()
