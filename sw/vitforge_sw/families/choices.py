"""A scheme's options as text: what each means, values from a command line or a file."""

import ast
import dataclasses
import inspect
import io
import json
import textwrap
import tokenize
import types
import typing
from collections.abc import Iterable
from pathlib import Path

from vitforge_hw.arch.parameter import did_you_mean

from ..models.text import reason_of
from ..models.written import read_json


def meanings(scheme: type) -> dict[str, str]:
    """Field -> its ``#:`` comment (behind it, or in the lines before it) in the source of a dataclass."""
    source = textwrap.dedent(inspect.getsource(scheme))
    comments = {
        token.start[0]: token.string.removeprefix("#:").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and token.string.startswith("#:")
    }
    found: dict[str, str] = {}
    used: set[int] = set()
    for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]  # a class definition has a body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            lines = [n for n in range(node.lineno, (node.end_lineno or node.lineno) + 1) if n in comments]
            before = node.lineno - 1
            while not lines and before in comments and before not in used:
                before -= 1
            lines = lines or list(range(before + 1, node.lineno))
            used.update(lines)
            found[node.target.id] = " ".join(comments[n] for n in lines)
    return found


def _fits(value: object, kind: object) -> bool:
    """Whether a value read from JSON may stand in a field annotated with ``kind``."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return any(_fits(value, k) for k in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        parts = typing.get_args(kind)
        parts = (parts[0],) * len(value) if isinstance(value, tuple) and parts[-1] is Ellipsis else parts
        return isinstance(value, tuple) and len(parts) == len(value) and all(map(_fits, value, parts))
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is kind or (value is None and kind is type(None))


def _tuples(value: object) -> object:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _wanted(kind: object) -> str:
    names = {bool: "true or false", int: "an integer", float: "a number", str: "a word", type(None): "null"}
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(map(_wanted, typing.get_args(kind)))
    return names.get(kind, "a list")  # type: ignore[call-overload]  # annotations are hashable


def checked(scheme: type, name: str, options: dict[str, object]) -> dict[str, object]:
    """``options`` (values as JSON has them) as fields of ``scheme``; ValueError with all that is unknown or of a wrong
    type."""
    kinds = typing.get_type_hints(scheme)
    known = [f.name for f in dataclasses.fields(scheme) if f.name != "name"]
    out, faults = {}, []
    for key, value in options.items():
        value = _tuples(value)
        if key not in known:
            faults.append(f"unknown option {key!r}{did_you_mean(key, known)}; options are {', '.join(sorted(known))}")
        elif not _fits(value, kinds[key]):
            faults.append(f"{key} must be {_wanted(kinds[key])}, not {value!r}")
        out[key] = value
    if faults:
        raise ValueError(f"scheme {name}: {'; '.join(faults)}")
    return out


def settings(pairs: Iterable[str]) -> dict[str, object]:
    """``name=value`` texts; a value that is no JSON (numbers, true, false, null, [lists]) is a word."""
    out: dict[str, object] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise ValueError(f"--set must be name=value, not {pair!r}")
        try:
            out[name] = json.loads(text)
        except ValueError:
            out[name] = text
    return out


def scheme_file(path: str | Path) -> tuple[str, dict[str, object]]:
    """(name of the base scheme, options that differ) of a JSON file {"base": NAME, "option": value, ...}."""
    try:
        data = read_json(path)
    except OSError as error:
        raise ValueError(f"scheme file {path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"scheme file {path}: must be JSON ({reason_of(error)})") from None
    if not isinstance(data, dict):
        raise ValueError(f"scheme file {path}: must be a JSON object, not {type(data).__name__}")
    base = data.pop("base", "vitforge")
    if not isinstance(base, str):
        raise ValueError(f"scheme file {path}: base must be the name of a scheme, not {base!r}")
    return base, data
