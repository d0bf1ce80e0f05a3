"""What each operator means. Importing this package registers every family."""

import strop.ops.attention as attention
import strop.ops.channels_last as channels_last
import strop.ops.control as control
import strop.ops.conv as conv
import strop.ops.cumulative as cumulative
import strop.ops.custom as custom
import strop.ops.data as data
import strop.ops.elementwise as elementwise
import strop.ops.index as index
import strop.ops.integer as integer
import strop.ops.matmul as matmul
import strop.ops.mixed as mixed
import strop.ops.norm as norm
import strop.ops.pool as pool
import strop.ops.quantize as quantize
import strop.ops.recurrent as recurrent
import strop.ops.reduce as reduce
import strop.ops.resize as resize
import strop.ops.roi as roi
import strop.ops.sampling as sampling
import strop.ops.scatter as scatter
import strop.ops.select as select
import strop.ops.sizes as sizes
import strop.ops.softmax as softmax
import strop.ops.wide as wide

__all__ = [
    "attention",
    "channels_last",
    "control",
    "conv",
    "cumulative",
    "custom",
    "data",
    "elementwise",
    "index",
    "integer",
    "matmul",
    "mixed",
    "norm",
    "pool",
    "quantize",
    "recurrent",
    "reduce",
    "resize",
    "roi",
    "sampling",
    "scatter",
    "select",
    "sizes",
    "softmax",
    "wide",
]
