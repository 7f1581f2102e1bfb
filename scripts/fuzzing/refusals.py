"""Which refusals the loaders have, and which of them an error came through.

A refusal is a place of the source: ``raise ValueError``, the ``raise TypeError`` of a malformed description, every call
of a rule (``need``, and the helpers of graph.rules), and every text of the tables and functions of ``TEXTS``, which are
raised elsewhere. Read off the source, so that a new one counts without being entered here.
"""

import ast
import dataclasses
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: the loaders' modules of each family
MODULES = {
    "checkpoints": "sw/vitforge_sw/models/checkpoint/*.py sw/vitforge_sw/models/resolve.py",
    "labels": "sw/vitforge_sw/models/labels.py sw/vitforge_sw/models/files.py",
    "images": "sw/vitforge_sw/models/pixels.py sw/vitforge_sw/models/images.py",
    "graphs": "sw/vitforge_sw/graph/*.py sw/vitforge_sw/ops/*.py",
    "configs": "hw/vitforge_hw/arch/config.py hw/vitforge_hw/arch/parameter.py sw/vitforge/rtl.py",
    "builds": "sw/vitforge_sw/compiler/program/store.py sw/vitforge_sw/compiler/program/image.py",
}
_RULES = ("need", "array", "scalar", "word", "ref", "output", "narrow", "accumulator", "check_post", "_within")
#: file -> names of functions and tables whose texts are refusals: they are raised, or said, by somebody else
TEXTS = {
    "read.py": ("_MAGIC", "_pickle_error"),
    "tensors.py": ("_kind",),
    "pixels.py": ("_REASONS",),
    "parameter.py": ("fault",),
    "config.py": ("_own_faults", "_cross_faults", "from_dict"),
}


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A place of the source; ``says``: its text as a pattern where it is known by that."""

    file: str
    line: int
    last: int
    source: str
    says: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def _pattern(node: ast.expr) -> str:
    """What a string or f-string says, with what varies left open: a word for a plain name."""
    if isinstance(node, ast.Constant):
        return re.escape(node.value)
    out = ""
    for part in node.values:
        if isinstance(part, ast.Constant):
            out += re.escape(part.value)
        else:
            plain = isinstance(part.value, ast.Name | ast.Attribute) and part.conversion == -1
            out += r"\S+" if plain and ast.unparse(part.value) != "self" else ".*"
    return out


def _texts(tree: ast.Module, names: tuple[str, ...]) -> list[tuple[ast.expr, str]]:
    """Every text of the functions and tables, the docstrings not."""
    out = []
    for node in ast.walk(tree):
        table = isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in names
        if not table and not (isinstance(node, ast.FunctionDef) and node.name in names):
            continue
        body = [node.value] if table else node.body[1:]
        inside = [n for part in body for n in ast.walk(part)]
        asked = [n for n in inside if isinstance(n, ast.Call) and ast.unparse(n.func).startswith("re.")]
        inside = [n for n in inside if not any(n is x for call in asked for x in ast.walk(call))]
        parts = {id(p) for n in inside if isinstance(n, ast.JoinedStr) for p in ast.walk(n) if p is not n}
        for n in inside:
            text = isinstance(n, ast.JoinedStr) or isinstance(n, ast.Constant) and isinstance(n.value, str)
            if text and id(n) not in parts and len(re.findall(r"[a-z]{2,}", _pattern(n))) >= 2:
                out.append((n, _pattern(n)))
    return out


def refusals(patterns: str) -> list[Refusal]:
    """Every refusal of the modules, in their order."""
    found: dict[tuple[str, int], Refusal] = {}
    for path in (p for pattern in patterns.split() for p in sorted(ROOT.glob(pattern))):
        file, lines = str(path.relative_to(ROOT)), path.read_text().splitlines()
        tree = ast.parse("\n".join(lines))

        def add(node: ast.AST, says: str = "", file: str = file, lines: list[str] = lines) -> None:
            source = " ".join(line.strip() for line in lines[node.lineno - 1 : node.end_lineno])
            found.setdefault((file, node.lineno), Refusal(file, node.lineno, node.end_lineno, source, says))

        for text, says in _texts(tree, TEXTS.get(path.name, ())):
            add(text, says)
        for node in ast.walk(tree):
            call = node.exc if isinstance(node, ast.Raise) else node
            name = ast.unparse(call.func) if isinstance(call, ast.Call) else ""
            name = name.removeprefix("rules.").removeprefix("self.")
            if name in ("ValueError", "TypeError") if isinstance(node, ast.Raise) else name in _RULES:
                add(node)
    return sorted(found.values(), key=lambda x: (x.file, x.line))


class Reached:
    """The refusals of ``known`` that errors came through, those that they replaced included."""

    def __init__(self, known: list[Refusal], before: set[str] = frozenset()) -> None:
        self.known, self.met = known, {x for x in known if str(x) in before}
        self._places: dict[str, list[Refusal]] = {}
        for x in known:
            if not x.says:
                self._places.setdefault(str(ROOT / x.file), []).append(x)
        self._texts = [(x, re.compile(x.says, re.S)) for x in known if x.says and x not in self.met]

    def enter(self, error: BaseException | None) -> None:
        while error is not None and len(self.met) < len(self.known):
            said, frame = str(error), error.__traceback__
            if hits := [pair for pair in self._texts if pair[1].search(said)]:
                self.met |= {x for x, _ in hits}
                self._texts = [pair for pair in self._texts if pair not in hits]
            while frame is not None:
                line = frame.tb_lineno
                for x in self._places.get(frame.tb_frame.f_code.co_filename, ()):
                    if x.line <= line <= x.last:
                        self.met.add(x)
                frame = frame.tb_next
            error = error.__context__
