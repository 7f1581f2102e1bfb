"""The operations of integer models, one file and one class each: everything that the road needs of them.

An operation is a frozen node of the graph (``graph.ir.Node`` says what it answers): its rule, its golden execution,
its multiplications, parameter entries and saturation limits. Serializer, rules, golden model, compiler and
verification find them in ``OPERATIONS``, by the name that files carry.
"""

from .attend import Attend
from .depthwise import Depthwise
from .key_value import KeyValue
from .layernorm import LayerNorm
from .linear_attention import LinearAttention
from .matmul import Matmul
from .post import Post
from .registry import OPERATIONS
from .scores import Scores
from .softmax import Softmax
from .token_sum import TokenSum

__all__ = [
    "OPERATIONS", "Attend", "Depthwise", "KeyValue", "LayerNorm", "LinearAttention", "Matmul", "Post", "Scores",
    "Softmax", "TokenSum",
]  # fmt: skip
