"""A checkpoint file to the object that it holds: what it is is read off its content, never off its name.

Taken are safetensors, the zip files of ``torch.save`` and its older plain pickles, weights only: nothing in a file is
run. Everything else is named for what it is; "corrupt or truncated" is said only of a file that is.
"""

import os
import re
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import torch
from safetensors.torch import load_file

from ..text import missing, reason_of, shown
from .stand_ins import harmless_globals

_MAGIC = (  #: (offset, bytes, what it is)
    (0, b"version https://git-lfs", "is a Git LFS pointer, not the weights themselves; fetch them with git lfs pull"),
    (0, b"<!DOCTYPE", "is a web page, not a checkpoint; the download went wrong"),
    (0, b"<!doctype", "is a web page, not a checkpoint; the download went wrong"),
    (0, b"<html", "is a web page, not a checkpoint; the download went wrong"),
    (0, b"\x1f\x8b", "is compressed (gzip); unpack it first"),
    (0, b"\xfd7zXZ", "is compressed (xz); unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "is compressed (zstd); unpack it first"),
    (0, b"BZh", "is compressed (bzip2); unpack it first"),
    (257, b"ustar", "is a tar archive; unpack it first"),
    (0, b"\x89HDF", "is an HDF5 file (Keras); only PyTorch's and safetensors are taken"),
    (0, b"GGUF", "is a GGUF file; only PyTorch's and safetensors are taken"),
    (0, b"\x93NUMPY", "is a NumPy array; only PyTorch's and safetensors are taken"),
    (4, b"TFL3", "is a TensorFlow Lite model; only PyTorch's and safetensors are taken"),
)
_PICKLE = 1 << 24  #: bytes of a pickle that are looked at
_LEGACY = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # torch.save's magic number, pickled, behind the protocol's two bytes
_MODULE = b"ctorch.nn.modules"  # the pickle names a class of layers: a whole model


def _corrupt(where: str, reason: object) -> ValueError:
    return ValueError(f"{where}: corrupt or truncated ({shown(reason, 160)})")


def _pickle_error(where: str, error: Exception, protocol: int, whole: bool) -> ValueError:
    """What weights-only loading objects to, without its advice (which is to run the file's code)."""
    text = str(error)
    if found := re.search(r"GLOBAL (\S+)", text):
        name = shown(found[1])
        if whole:
            return ValueError(
                f"{where}: holds a whole pickled model (class {name}), and reading it would run its code; save "
                "model.state_dict() instead"
            )
        return ValueError(
            f"{where}: holds an object of {name}, and reading it would run its code; save the state dict alone"
        )
    if protocol != 2:
        return ValueError(f"{where}: is pickled with protocol {protocol}, which is not read; use torch.save's default")
    found = re.search(r"WeightsUnpickler error: (.*)", text)
    return _corrupt(where, (found[1] if found else reason_of(error)).strip() or type(error).__name__)


def _pickle_in(path: Path, where: str) -> bytes:
    """The pickle in a zip file of ``torch.save``; other archives are named."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if names and all(n.endswith(".npy") for n in names):
                raise ValueError(f"{where}: is a NumPy archive (JAX weights); only PyTorch's and safetensors are taken")
            if any(n.endswith("/constants.pkl") or "/code/" in n for n in names):
                raise ValueError(f"{where}: is a TorchScript program; save the model's state dict instead")
            pickle = next((n for n in names if n == "data.pkl" or n.endswith("/data.pkl")), None)
            if pickle is None:
                raise ValueError(f"{where}: is a zip archive without a checkpoint of torch.save in it")
            with archive.open(pickle) as file:
                return file.read(_PICKLE)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, OSError, RuntimeError, KeyError) as error:
        raise _corrupt(where, reason_of(error)) from None


def _read_pickle(path: Path, where: str, zipped: bool) -> object:
    if zipped:
        pickle = _pickle_in(path, where)
    else:
        with open(path, "rb") as file:
            pickle = file.read(_PICKLE)
        if _LEGACY not in pickle[:32]:
            raise ValueError(f"{where}: is a plain pickle, which may run code; save the state dict with torch.save")
    protocol = pickle[1] if pickle[:1] == b"\x80" and len(pickle) > 1 else 0
    try:
        # a file, not its path: by a path's suffix torch would take it for safetensors
        with harmless_globals(), open(path, "rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler fails in every way on damaged bytes
        raise _pickle_error(where, error, protocol, _MODULE in pickle) from None


def _read_safetensors(path: Path, where: str) -> dict:
    try:
        return load_file(path)
    except Exception as error:  # the header is parsed in Rust, its values in Python
        raise _corrupt(where, reason_of(error)) from None


def read_file(path: str | Path) -> object:
    """What the file holds: a dict of tensors (safetensors), or whatever ``torch.save`` was given, weights only."""
    path = Path(path)
    where = f"checkpoint {shown(path, 300)}"
    if not os.path.isfile(path):  # False as well for a name that no file can have
        raise ValueError(f"{where}: {missing(path)}")
    try:
        with open(path, "rb") as file:
            head = file.read(512)
    except OSError as error:
        raise ValueError(f"{where}: cannot be read ({error.strerror})") from None
    if not head:
        raise _corrupt(where, "the file is empty")
    for offset, magic, what in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            raise ValueError(f"{where}: {what}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, on storages and protocols
        if head.startswith(b"PK"):
            return _read_pickle(path, where, True)
        if len(head) > 9 and head[8:9] == b"{" and (head[9:10] in b'"} \n' or struct.unpack("<Q", head[:8])[0] < 1e8):
            return _read_safetensors(path, where)
        if head[0] == 0x80:
            return _read_pickle(path, where, False)
    if head.lstrip()[:1] in (b"{", b"["):
        raise ValueError(f"{where}: is JSON text, not weights (an index names the files that hold them)")
    raise ValueError(f"{where}: is neither safetensors nor a file of torch.save (begins with {head[:8]!r})")
