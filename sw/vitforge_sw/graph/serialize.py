"""One safetensors file per integer model: integer tensors, and the graph as JSON in the header. No pickle, no floats.

Layout: tensors ``NODE/FIELD`` and ``constants/NAME``; header entry ``vitforge`` = JSON {schema, nodes, tensors, input,
output, meta, hash, packed}. A node's entry has the operation's name (``op``), its role (what differs from an empty one)
and its fields, those that came later (``ir.LATER``) only where they differ from their defaults. ``hash`` is the SHA-256
of everything else; loading verifies it and every rule of the graph. ``packed`` = {tensor: [bits, shape]}, where there
are any, has the weights of fewer than 8 bits, which lie in the file as ``packing`` says; the hash is that of the
unpacked ones: it names the model, not the form of its file. Files of an older schema are upgraded when they are loaded.
"""

import dataclasses
import hashlib
import json
import os
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..ops import Matmul
from ..ops.registry import OPERATIONS, name_of
from . import ir
from .packing import pack, unpack
from .rules import check_graph
from .upgrade import UPGRADES

SCHEMA = "vitforge-graph-2"
_KEY = "vitforge"
_BLANK = ir.Role()


def _split(graph: ir.Graph) -> tuple[dict, dict[str, np.ndarray]]:
    """(JSON-able description, integer arrays)."""
    arrays = {f"constants/{name}": np.ascontiguousarray(value) for name, value in graph.constants.items()}
    nodes = []
    for node in graph.nodes:
        role = {k: v for k, v in dataclasses.asdict(node.role).items() if v != getattr(_BLANK, k)}
        entry: dict[str, Any] = {"op": name_of(node), "role": role}
        for field in dataclasses.fields(node):
            value = getattr(node, field.name)
            if isinstance(value, np.ndarray):
                arrays[f"{node.name}/{field.name}"] = np.ascontiguousarray(value)
            elif isinstance(value, ir.Ref):
                entry[field.name] = [value.name, value.start, value.count]
            elif field.name != "role" and not (field.metadata.get("later") and value == field.default):
                entry[field.name] = value
        nodes.append(entry)
    tensors = [dataclasses.asdict(info) for info in graph.tensors.values()]
    data = dict(schema=SCHEMA, nodes=nodes, tensors=tensors, input=graph.input, output=graph.output, meta=graph.meta)
    return data, arrays


def graph_hash(graph: ir.Graph) -> str:
    """SHA-256 (hex) of the graph's content, meta included: the model hash of every artefact."""
    return _hash(*_split(graph))


def _hash(data: dict, arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps({k: v for k, v in data.items() if k != "hash"}, sort_keys=True).encode())
    for name in sorted(arrays):
        value = arrays[name]
        digest.update(f"{name} {value.dtype.str} {value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def write_atomic(path: str | Path, payload: bytes) -> None:
    """Write through a temporary file in the same folder and rename: an interrupted run leaves no half file."""
    path = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise ValueError(f"output {path}: cannot be written ({error.strerror})") from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(payload)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        os.unlink(temporary)
        if isinstance(error, OSError):  # a full disk
            raise ValueError(f"output {path}: cannot be written ({error.strerror})") from None
        raise


def save_graph(graph: ir.Graph, path: str | Path) -> str:
    """Check and write ``graph``; returns its hash."""
    check_graph(graph)
    data, arrays = _split(graph)
    data["hash"] = _hash(data, arrays)
    few = [node for node in graph.nodes if isinstance(node, Matmul) and node.weight_bits < 8]
    if packed := {f"{node.name}/weight": node.weight_bits for node in few}:
        data["packed"] = {name: [bits, arrays[name].shape] for name, bits in packed.items()}
        arrays |= {name: pack(arrays[name], bits) for name, bits in packed.items()}
    write_atomic(path, save(arrays, metadata={_KEY: json.dumps(data, sort_keys=True)}))
    return data["hash"]


def _header(blob: bytes) -> dict:
    (size,) = struct.unpack("<Q", blob[:8])
    return json.loads(blob[8 : 8 + size])


def load_graph(path: str | Path) -> ir.Graph:
    """Read, verify the hash and check every rule. Corrupt, truncated or foreign files are a one-line ValueError."""
    path = Path(path)
    if not os.path.isfile(path):
        folder = " (it is a folder; of a build name its model.safetensors)" if os.path.isdir(path) else ""
        raise ValueError(f"model {path}: no such file{folder}")
    try:
        blob = path.read_bytes()
        arrays = load(blob)
        text = _header(blob).get("__metadata__", {}).get(_KEY)
    except (
        OSError,
        SafetensorError,
        struct.error,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        OverflowError,
        MemoryError,
    ) as error:
        reason = (str(error).split("\n")[0] or type(error).__name__)[:160]
        raise ValueError(f"model {path}: corrupt or truncated ({reason})") from None
    if text is None:
        raise ValueError(f"model {path}: is no quantized model (a float checkpoint? run vitforge quantize first)")
    try:
        data = json.loads(text)
        if data.get("schema") not in (SCHEMA, *UPGRADES):
            raise ValueError(f"schema must be {SCHEMA}, not {data.get('schema')!r}")
        arrays |= _unpacked(data.pop("packed", {}), arrays)
        found = _hash(data, arrays)
        if found != data.get("hash"):
            raise ValueError(
                f"content hash must be {str(data.get('hash'))[:16]}, is {found[:16]}: the file was changed"
            )
        while data["schema"] in UPGRADES:
            data, arrays = UPGRADES[data["schema"]](data, arrays)
        return check_graph(_join(data, arrays))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        reason = str(error).split("\n")[0] if isinstance(error, ValueError) else f"malformed description: {error!r}"
        raise ValueError(f"model {path}: {reason if reason.isprintable() else ascii(reason)[1:-1]}") from None


def _unpacked(packed: dict, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors that ``packed`` names, as they were; ValueError: names, bits or shapes that no file has."""
    found = {}
    for name, (bits, shape) in packed.items():
        whole = [bits, *shape]
        if name not in arrays or any(type(n) is not int or n < 1 for n in whole) or bits > 7 or len(shape) != 2:
            raise ValueError(f"packed tensor {name}: must be there and have 1 to 7 bits and shape N, K, not {whole}")
        try:
            found[name] = unpack(arrays[name], bits, tuple(shape))
        except ValueError as error:
            raise ValueError(f"packed tensor {name} {error}") from None
    return found


def _join(data: dict, arrays: dict[str, np.ndarray]) -> ir.Graph:
    used, nodes = set(), []
    for entry in data["nodes"]:
        entry = dict(entry)
        name = entry.pop("op")
        if name not in OPERATIONS:
            raise ValueError(f"unknown operation {name!r}")
        kind = OPERATIONS[name]
        entry["role"] = ir.Role(**entry["role"])
        for field in dataclasses.fields(kind):
            if isinstance(entry.get(field.name), list):
                entry[field.name] = ir.Ref(*entry[field.name])
            key = f"{entry['name']}/{field.name}"
            if key in arrays:
                entry[field.name] = arrays[key]
                used.add(key)
        nodes.append(kind(**entry))
    constants = {name.removeprefix("constants/"): v for name, v in arrays.items() if name.startswith("constants/")}
    used |= {f"constants/{name}" for name in constants}
    if extra := sorted(set(arrays) - used):
        raise ValueError(f"unexpected tensor {extra[0]}")
    if not isinstance(data["meta"], dict):
        raise ValueError(f"meta must be an object, not {data['meta']!r}"[:100])
    tensors = {t["name"]: ir.TensorInfo(**t) for t in data["tensors"]}
    return ir.Graph(nodes, tensors, constants, data["input"], data["output"], data["meta"])
