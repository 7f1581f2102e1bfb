"""A batch of images as one graph: layers up to the pooling once for each image, the classifier once for all of them.

A *job* is ``batch`` images. The pooled vectors of its images are tokens 0 to batch - 1 of one group, so the
classifier's weights are read once a job. A *deferred* classifier works on the pooled vectors that the job before has
left: its layers come first, and its results belong to the job before.
"""

import dataclasses
from typing import Any

from vitforge_hw.arch.config import AcceleratorConfig

from ...graph.ir import Graph, Node, Ref
from ...graph.rules import check_graph
from ...ops import TokenSum

EVERY = -1  #: image of what belongs to the whole batch


class ImageName(str):
    """Name of a layer, tensor or weight piece of an image of the batch: the graph's own name and the image are data,
    the text, which is unique, is for people."""

    plain: str
    image: int

    def __new__(cls, plain: str, image: int) -> "ImageName":
        name = super().__new__(cls, f"{plain}@{'*' if image == EVERY else image}")
        name.plain, name.image = plain, image
        return name

    def __getnewargs__(self) -> tuple[str, int]:  # type: ignore[override]  # str's own has the text alone
        return self.plain, self.image


def of_image(name: str, image: int) -> str:
    """The name in an image of the batch (EVERY: in all together); the first image's is the graph's own."""
    return ImageName(name, image) if image else name


def plain(name: str) -> str:
    """The graph's own name of a layer, tensor or weight piece."""
    return name.plain if isinstance(name, ImageName) else name


def image_of(name: str) -> int:
    """The image that a name belongs to."""
    return name.image if isinstance(name, ImageName) else 0


def part_of(name: str, part: str) -> str:
    """The name of something that belongs to a layer or tensor (``part`` follows its name), in the same image."""
    return of_image(plain(name) + part, image_of(name))


def pools(node: Node) -> bool:
    """Average pooling: behind it an image is one token."""
    return isinstance(node, TokenSum) and not node.keys


def shared_tensors(graph: Graph) -> set[str]:
    """Tensors that a batch has once: what is pooled, and everything made from it."""
    found: set[str] = set()
    count = -1
    while len(found) > count:  # the classifier may stand first
        count = len(found)
        found |= {n.out.name for n in graph.nodes if pools(n) or {r.name for r in n.inputs} & found}
    return found


def whole_layers(graph: Graph) -> set[str]:
    """Layers that a batch has once."""
    shared = shared_tensors(graph)
    return {n.name for n in graph.nodes if all(r.name in shared for r in n.inputs)}


def carried(graph: Graph) -> set[str]:
    """Tensors that the deferred classifier reads from the job before."""
    whole = whole_layers(graph)
    made = {n.out.name for n in graph.nodes if n.name in whole}
    return {r.name for n in graph.nodes if n.name in whole for r in n.inputs} - made


def unroll(graph: Graph, batch: int, config: AcceleratorConfig, defer: bool = False) -> Graph:
    """The graph of a whole job, the classifier first where it is deferred; input and tensors of image i are
    ``of_image(name, i)``."""
    if batch == 1 and not defer:
        return graph
    if batch > config.cores:
        raise ValueError(f"batch must be at most cores = {config.cores}, not {batch} (preset {config.name})")
    for name in graph.tensors:
        if "@" in name:
            raise ValueError(f"tensor {name}: names in batches must not contain '@'")
    shared = shared_tensors(graph)
    if graph.output not in shared:
        what = f"batch must be 1 for a model without pooling, not {batch}"
        raise ValueError("defer needs a model with pooling" if defer else what)
    whole = whole_layers(graph)
    body = [n for n in graph.nodes if n.name not in whole]
    head = [n for n in graph.nodes if n.name in whole]
    for node in body:
        if mixed := [r.name for r in node.inputs if r.name in shared]:
            raise ValueError(f"layer {node.name}: reads {mixed[0]} of the whole batch; batch must be 1, not {batch}")
    nodes = [_renamed(node, i, shared) for i in range(batch) for node in body]
    nodes = head + nodes if defer else nodes + head
    tensors = {}
    for i in range(batch):
        for name, info in graph.tensors.items():
            mine = name if name in shared else of_image(name, i)
            tensors[mine] = dataclasses.replace(info, name=mine)
    job = Graph(nodes, tensors, graph.constants, graph.input, graph.output, graph.meta)
    outside = {of_image(graph.input, i) for i in range(batch)} | (carried(graph) if defer else set())
    return check_graph(job, outside, shared)


def _renamed(node: Node, image: int, shared: set[str]) -> Node:
    """A node of one image."""

    def ref(r: Ref) -> Ref:
        return r if r.name in shared else dataclasses.replace(r, name=of_image(r.name, image))

    values = {f.name: getattr(node, f.name) for f in dataclasses.fields(node)}
    refs: dict[str, Any] = {n: ref(v) for n, v in values.items() if isinstance(v, Ref)}
    role = dataclasses.replace(node.role, image=image)
    return dataclasses.replace(node, **refs, name=of_image(node.name, image), role=role)
