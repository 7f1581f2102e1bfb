"""The cache of what is slow to make: simulation programs, generated Verilog, synthesised blocks.

It lies in the user's cache folder (`$XDG_CACHE_HOME/vitforge`, else `~/.cache/vitforge`), or where VITFORGE_CACHE says.
Entries are named by the hash of everything that goes into them, made in a temporary place under a lock and renamed when
complete: any number of processes may share the folder, and a killed one leaves nothing that a later one would take.
When it outgrows its limit (VITFORGE_CACHE_GB, default 8) the entries unused for the longest time go.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

LIMIT_GB = 8.0
RECENT = 3600  #: seconds for which an entry that was made or taken is left alone: a running process may need it


def cache_folder() -> Path:
    """The folder, created if needed."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("VITFORGE_CACHE") or home / "vitforge").resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cache folder {folder}: cannot be made ({error.strerror}); set VITFORGE_CACHE") from None
    return folder


def limit() -> int:
    """Bytes that the cache may hold."""
    text = os.environ.get("VITFORGE_CACHE_GB", str(LIMIT_GB))
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = -1.0
    if gigabytes < 0:
        raise ValueError(f"VITFORGE_CACHE_GB must be a number of at least 0, not {text!r}")
    return int(gigabytes * 1e9)


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock of an entry; other processes wait for it."""
    with open(cache_folder() / f".{name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def locked_path(path: Path) -> contextlib.AbstractContextManager[None]:
    """Hold the lock of any file or folder, by its place; the lock itself lies in the cache."""
    return locked("path-" + hashlib.sha256(str(Path(path).resolve()).encode()).hexdigest()[:20])


def used(entry: Path) -> None:
    """Note that an entry was taken."""
    with contextlib.suppress(OSError):
        os.utime(entry)


def entries() -> list[tuple[Path, int, float]]:
    """(place, bytes, time of last use) of each complete entry, the oldest first."""
    found = []
    for path in cache_folder().iterdir():
        if not path.name.startswith("."):
            with contextlib.suppress(OSError):
                files = path.rglob("*") if path.is_dir() else [path]
                size = sum(f.stat().st_size for f in files if f.is_file())
                found.append((path, size, path.stat().st_mtime))
    return sorted(found, key=lambda entry: entry[2])


def _remove(path: Path) -> bool:
    """Remove an entry unless a process holds its lock."""
    with open(cache_folder() / f".{path.name}.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return not path.exists()


def clean(everything: bool = True) -> tuple[int, int]:
    """Remove all entries, or the oldest until the limit holds, none used lately; (entries, bytes) removed."""
    found = entries()
    total, count, freed = sum(size for _, size, _ in found), 0, 0
    for path, size, last in found:
        if not everything and (total - freed <= limit() or time.time() - last < RECENT):
            break
        if _remove(path):
            count, freed = count + 1, freed + size
    return count, freed
