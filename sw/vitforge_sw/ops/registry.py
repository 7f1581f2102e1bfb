"""The table of operations: name in files -> class."""

from collections.abc import Callable

from ..graph.ir import Node

OPERATIONS: dict[str, type[Node]] = {}


def operation(name: str) -> Callable[[type[Node]], type[Node]]:
    """Class decorator: enter an operation under the name that files carry."""

    def enter(cls: type[Node]) -> type[Node]:
        if name in OPERATIONS:
            raise ValueError(f"operation {name!r} is declared twice: {OPERATIONS[name].__name__} and {cls.__name__}")
        OPERATIONS[name] = cls
        return cls

    return enter


def name_of(node: Node) -> str:
    """The name that files carry for a node's operation."""
    for name, cls in OPERATIONS.items():
        if type(node) is cls:
            return name
    raise ValueError(f"integer graph: {getattr(node, 'name', '?')}: unknown node type {type(node).__name__}")
