"""The protobuf messages of TensorFlow's files, as far as they are read; fields that are not listed here are skipped.

Numbers and types are those of TensorFlow's public ``.proto`` files (core/framework and core/protobuf). The messages live in a pool of their own, beside
TensorFlow's where that is loaded too. Maps are lists of entries and enums are integers, which is the same on the wire.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from strop.errors import ModelError, UnsupportedError

_PACKAGE = "strop_tensorflow"
#: A message a line: number, ``*`` where it repeats, name, type.
_SCHEMA = """
SavedModel: 1 schema int64; 2* meta_graphs MetaGraph
MetaGraph: 1 info Info; 2 graph_def Graph; 3 saver_def Saver; 5* signature_def SignatureEntry; 7 object_graph_def Objects
Objects: 2* concrete_functions CapturesEntry
CapturesEntry: 1 key string; 2 value Captures
Captures: 2* bound_inputs int32
Info: 4* tags string; 5 tensorflow_version string
Saver: 1 filename_tensor_name string; 3 restore_op_name string
SignatureEntry: 1 key string; 2 value Signature
Signature: 1* inputs TensorEntry; 2* outputs TensorEntry; 3 method_name string
TensorEntry: 1 key string; 2 value TensorInfo
TensorInfo: 1 name string; 2 dtype int32; 3 tensor_shape Shape
Graph: 1* node Node; 2 library Library
Library: 1* function Function
Function: 1 signature OpDef; 3* node_def Node; 4* ret TextEntry; 6* control_ret TextEntry
TextEntry: 1 key string; 2 value string
OpDef: 1 name string; 2* input_arg Arg; 3* output_arg Arg
Arg: 1 name string; 3 type int32; 4 type_attr string; 5 number_attr string; 6 type_list_attr string
Node: 1 name string; 2 op string; 3* input string; 5* attr AttrEntry
AttrEntry: 1 key string; 2 value Attr
Attr: 1 list List; 2 s bytes; 3 i int64; 4 f float; 5 b bool; 6 type int32; 7 shape Shape; 8 tensor Tensor; 10 func Name
Name: 1 name string
List: 2* s bytes; 3* i int64; 4* f float; 5* b bool; 6* type int32; 7* shape Shape; 9* func Name
Shape: 2* dim Dim; 3 unknown_rank bool
Dim: 1 size int64
Tensor: 1 dtype int32; 2 tensor_shape Shape; 4 tensor_content bytes; 5* float_val float; 6* double_val double; 7* int_val int32; 8* string_val bytes; 10* int64_val int64; 11* bool_val bool; 13* half_val int32; 16* uint32_val uint32; 17* uint64_val uint64
ObjectGraph: 1* nodes Object
Object: 2* attributes SavedTensor
SavedTensor: 1 name string; 2 full_name string; 3 checkpoint_key string
BundleHeader: 1 num_shards int32; 2 endianness int32
BundleEntry: 1 dtype int32; 2 shape Shape; 3 shard_id int32; 4 offset int64; 5 size int64; 6 crc32c fixed32; 7* slices Slice
Slice: 1* extent Dim
"""
_SCALARS = {
    "double": 1, "float": 2, "int64": 3, "uint64": 4, "int32": 5, "fixed32": 7, "bool": 8, "string": 9, "bytes": 12, "uint32": 13,
}  # fmt: skip
#: Messages of which one field is set.
_UNIONS = ("Attr",)
#: Most bytes of a message: protobuf's own limit.
MAX_BYTES = (1 << 31) - 1


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="strop/tensorflow.proto", package=_PACKAGE, syntax="proto3")
    for line in _SCHEMA.strip().splitlines():
        name, _, rest = line.partition(": ")
        message = file.message_type.add(name=name)
        if name in _UNIONS:
            message.oneof_decl.add(name="value")
        for entry in rest.split("; "):
            number, field, kind = entry.split()
            made = message.field.add(name=field, number=int(number.rstrip("*")), label=3 if number.endswith("*") else 1)
            if name in _UNIONS:
                made.oneof_index = 0
            if kind in _SCALARS:
                made.type = _SCALARS[kind]
            else:
                made.type, made.type_name = 11, f".{_PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = [message.name for message in file.message_type]
    make: Any = getattr(message_factory, "GetMessageClass", None) or message_factory.MessageFactory(pool).GetPrototype  # before protobuf 4.22
    return {name: make(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in names}


_CLASSES = _classes()


def parse(name: str, data: bytes, where: str) -> Any:
    """A message of the schema above out of its bytes.

    Args:
        name: of the message.
        data: its bytes.
        where: what it is read from, for messages.

    Raises:
        ModelError: they are no such message, or end too early.
        UnsupportedError: they are too many for protobuf.
    """
    if len(data) > MAX_BYTES:
        raise UnsupportedError("the file is too large", where=where, got=f"{len(data)} bytes", expected=f"at most {MAX_BYTES}")
    message = _CLASSES[name]()
    try:
        message.ParseFromString(data)
    except (DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ModelError(
            f"this is no TensorFlow {name}", where=where, got=error, expected="a serialized protobuf message", hint="check that it was copied completely"
        ) from error
    return message
