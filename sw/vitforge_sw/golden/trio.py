"""The EfficientViT family's nodes to their prepared operations."""

from ..graph.ir import Graph, Node
from ..graph.ir_trio import Depthwise, KeySum, KeyValue, LinearAttend, NormAct, Pointwise, Pool
from .linear_attention import KeyValueOp, LinearAttendOp
from .norm_act import NormActOp
from .spatial import DepthwiseOp, KeySumOp, PointwiseOp, PoolOp


def prepare_trio(graph: Graph, node: Node):
    """An operation ``op(*inputs, taps=None)`` on (B, tokens, channels) integers, inputs as ``inputs_of`` lists them."""
    fmt = graph.tensors[node.out.name].fmt
    if isinstance(node, Pointwise):
        return PointwiseOp(node, fmt)
    if isinstance(node, Depthwise):
        x = graph.tensors[node.x.name]
        return DepthwiseOp(node, fmt, x.height, x.width)
    if isinstance(node, KeySum):
        return KeySumOp(node, fmt)
    if isinstance(node, KeyValue):
        return KeyValueOp(node, fmt, graph.tensors[node.k.name].tokens)
    if isinstance(node, LinearAttend):
        return LinearAttendOp(node, node.q.count or graph.tensors[node.q.name].channels)
    if isinstance(node, Pool):
        return PoolOp(node, fmt)
    assert isinstance(node, NormAct), node
    return NormActOp(node)
