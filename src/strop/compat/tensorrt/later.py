"""Layers that INetworkDefinition has had since version 8.5: data-dependent sizes, assertions, attention."""

from __future__ import annotations

from inspect import getattr_static
from typing import Any

from strop.compat.tensorrt import enums
from strop.compat.tensorrt.adding import adds, name_in
from strop.compat.tensorrt.attributes import Attribute, choice, number
from strop.compat.tensorrt.basics import note, own_dtype, their_dtype
from strop.compat.tensorrt.control import IIfConditional, ILoop
from strop.compat.tensorrt.enums import DataType, LayerType
from strop.compat.tensorrt.layers import CLASSES, ILayer
from strop.compat.tensorrt.tensor import ITensor
from strop.errors import UnsupportedError
from strop.frontend import network as nw
from strop.ir.dtype import BY_NAME

#: Layers that are refused, and why.
REFUSED = {
    "add_dynamic_quantize": "it makes FP4 or FP8 values with a scale per block, and values of these dtypes are not supported",
    "add_dynamic_quantize_v2": "it makes FP4 or FP8 values with a scale per block, and values of these dtypes are not supported",
    "add_moe": "experts that data chooses are not supported; spell it out by matrix products and add_select",
    "add_dist_collective": "a network runs on one machine",
}


class LaterLayers:
    """The ``add_*`` methods of these layers. Users of the class have ``own``, ``layer`` and ``failed``."""

    own: nw.Network
    loops: dict[Any, Any]

    def _add(self, own: nw.Layer, *inputs: ITensor | None) -> Any:
        raise NotImplementedError

    @adds
    def add_loop(self) -> ILoop:
        """A loop."""
        return ILoop(self)

    @adds
    def add_if_conditional(self) -> IIfConditional:
        """A conditional."""
        return IIfConditional(self)

    @adds
    def add_assertion(self, condition: ITensor, message: str) -> Any:
        """Something that must hold when the network is built."""
        return self._add(nw.Assertion(message), condition)

    @adds
    def add_non_zero(self, input: ITensor, indices_type: Any = DataType.INT32) -> Any:
        """Where the operand is not zero."""
        return self._add(nw.NonZero(own_dtype(indices_type).name), input)

    @adds
    def add_nms(self, boxes: ITensor, scores: ITensor, max_output_boxes_per_class: ITensor, indices_type: Any = DataType.INT32) -> Any:
        """Boxes that overlap no better one too much."""
        return self._add(nw.NMS(indices=own_dtype(indices_type).name), boxes, scores, max_output_boxes_per_class)

    @adds
    def add_attention(self, query: ITensor, key: ITensor, value: ITensor, norm_op: Any, causal: bool) -> Any:
        """Attention; ``causal`` True: query i sees the keys 0..i."""
        return self._add(nw.Attention(name_in(enums.AttentionNormalizationOp, norm_op), "upper_left" if causal else "none"), query, key, value)

    @adds
    def add_attention_v2(self, query: ITensor, key: ITensor, value: ITensor, norm_op: Any, causal_kind: Any) -> Any:
        """Attention with a kind of causal mask."""
        return self._add(nw.Attention(name_in(enums.AttentionNormalizationOp, norm_op), name_in(enums.CausalMaskKind, causal_kind)), query, key, value)

    @adds
    def add_rotary_embedding(self, input: ITensor, cos_cache: ITensor, sin_cache: ITensor, interleaved: bool, rotary_embedding_dim: int) -> Any:
        """Pairs of elements turned by angles."""
        return self._add(nw.RotaryEmbedding(bool(interleaved), int(rotary_embedding_dim)), input, cos_cache, sin_cache)

    @adds
    def add_kv_cache_update(self, cache: ITensor, update: ITensor, write_indices: ITensor, cache_mode: Any = enums.KVCacheMode.LINEAR) -> Any:
        """A cache with new entries; the result is a tensor of its own."""
        enums.KVCacheMode(cache_mode)
        return self._add(nw.KVCacheUpdate(), cache, update, write_indices)

    def __getattr__(self, name: str) -> Any:
        taken = getattr_static(type(self), name, None)
        if taken is not None:  # by the compat level, which says so
            return taken.__get__(self, type(self))
        if not name.startswith("add_"):
            raise AttributeError(f"INetworkDefinition has no attribute '{name}'")
        raise UnsupportedError(
            f"INetworkDefinition.{name} is not supported", where=name, got=REFUSED.get(name), hint="docs/tensorrt-coverage.md lists what is"
        )


class IAssertionLayer(ILayer):
    layer_type = LayerType.ASSERTION
    message = Attribute("message")


class INonZeroLayer(ILayer):
    layer_type = LayerType.NON_ZERO
    indices_type = Attribute("indices", lambda v: their_dtype(BY_NAME[v]), lambda v: own_dtype(v).name)


class INMSLayer(ILayer):
    layer_type = LayerType.NMS
    bounding_box_format = choice("boxes", enums.BoundingBoxFormat)
    indices_type = Attribute("indices", lambda v: their_dtype(BY_NAME[v]), lambda v: own_dtype(v).name)
    #: All boxes are looked at.
    topk_box_limit = property(lambda self: 5000, lambda self, value: note(self.network.logger, "topk_box_limit"))


class IAttention(ILayer):
    layer_type = LayerType.ATTENTION_OUTPUT
    norm_op = choice("norm", enums.AttentionNormalizationOp)
    causal_kind = choice("causal", enums.CausalMaskKind)
    causal = Attribute("causal", lambda v: v != "none", lambda v: "upper_left" if v else "none")
    #: It is one kernel, or products and a softmax, whichever is faster.
    decomposable = property(lambda self: True, lambda self, value: note(self.network.logger, "decomposable"))
    query_form = key_value_form = property(lambda self: enums.AttentionIOForm.PADDED_BHND)

    @property
    def mask(self) -> Any:
        """Floats that are added to the scores, or bools, True where a query sees a key; or None."""
        return self.get_input(3)

    @mask.setter
    def mask(self, tensor: ITensor) -> None:
        self.set_input(3, tensor)


class IRotaryEmbeddingLayer(ILayer):
    layer_type = LayerType.ROTARY_EMBEDDING
    interleaved = number("interleaved", bool)
    rotary_embedding_dim = number("size", int)


class IKVCacheUpdateLayer(ILayer):
    layer_type = LayerType.KVCACHE_UPDATE
    cache_mode = property(lambda self: enums.KVCacheMode.LINEAR)


CLASSES.update(
    {
        nw.Assertion: IAssertionLayer,
        nw.NonZero: INonZeroLayer,
        nw.NMS: INMSLayer,
        nw.Attention: IAttention,
        nw.RotaryEmbedding: IRotaryEmbeddingLayer,
        nw.KVCacheUpdate: IKVCacheUpdateLayer,
    }
)
