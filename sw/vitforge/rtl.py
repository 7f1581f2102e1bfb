"""The generated Verilog of a configuration: emitted once per configuration and generator version, then reused."""

import contextlib
import gc
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vitforge_hw.arch.build_hash import generator_hash
from vitforge_hw.arch.config import AcceleratorConfig, get_config
from vitforge_sim.run.cache import cache_folder, locked, locked_path, used
from vitforge_sw.models.text import reason_of
from vitforge_sw.models.written import read_json
from vitforge_sw.progress import working

#: Of the sources as this process loaded them: what it emits is kept under this name, also if they change meanwhile.
GENERATOR = generator_hash().hex()[:16]


def load_config(preset: str | None, config: str | Path | None) -> AcceleratorConfig:
    """A preset by name, or a JSON file of AcceleratorConfig fields. Exactly one must be given."""
    if (preset is None) == (config is None):
        raise ValueError("configuration: give either --preset NAME or --config FILE")
    if preset is not None:
        return get_config(preset)
    try:
        data = read_json(config)
    except OSError as error:
        raise ValueError(f"config file {config}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"config file {config}: must be JSON ({reason_of(error)})") from None
    if not isinstance(data, dict):
        raise ValueError(f"config file {config}: must be a JSON object, not {type(data).__name__}")
    return AcceleratorConfig.from_dict(data)


def ensure_rtl(
    config: AcceleratorConfig, folder: Path, command: str = "", progress: bool = False, primitives: str = ""
) -> dict[str, str]:
    """Verilog in ``folder/rtl`` for this configuration, emitted only where it is missing or stale.

    ``primitives``: as in ``vitforge_hw.verilog.emit``. Returns file name -> text. The emission is cached beside the
    simulation programs; processes that want the same one, or the same folder, wait for each other. Files of another
    configuration's emission in ``folder/rtl`` go.
    """
    rtl = Path(folder) / "rtl"
    with locked_path(rtl):
        if not _current(rtl, config, primitives):
            cached = _emission(config, command, progress, primitives)
            stale = set(_files(rtl)) - set(_files(cached))
            shutil.copytree(cached, rtl, dirs_exist_ok=True)
            for name in stale:
                (rtl / name).unlink(missing_ok=True)
        return read_rtl(rtl)


def _emission(config: AcceleratorConfig, command: str, progress: bool, primitives: str) -> Path:
    """The cached Verilog of a configuration, made where it is missing."""
    form = f"{config.name}-{primitives}" if primitives else config.name
    entry = cache_folder() / f"rtl-{form}-{config.hash:08x}-{GENERATOR}"
    with locked(entry.name):
        if not _current(entry / "rtl", config, primitives):
            from vitforge_hw.verilog import write

            shown = working(f"emitting Verilog of {config.name}", progress)
            with shown, _no_collection(), tempfile.TemporaryDirectory(dir=cache_folder(), prefix=".rtl-") as temporary:
                write(config, Path(temporary) / "new", command, primitives)
                (Path(temporary) / "new" / "rtl" / "generator").write_text(GENERATOR)
                shutil.rmtree(entry, ignore_errors=True)
                os.rename(Path(temporary) / "new", entry)
        used(entry)
    return entry / "rtl"


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage collection inside: an emission makes millions of objects, and looking for circles takes a third of its
    time. Without it `hybrid`, the largest preset, needs 1.1 GB instead of 0.2."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _files(rtl: Path) -> list[str]:
    """The files of an emission, by its own list."""
    try:
        names = json.loads((rtl / "verilog.json").read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [n for n in names if isinstance(n, str) and Path(n).name == n]


def _current(rtl: Path, config: AcceleratorConfig, primitives: str) -> bool:
    try:
        info = json.loads((rtl / "verilog.json").read_text())
        files = all((rtl / name).exists() for name in info["files"])
        files = files and info["primitives"] == primitives
        return files and info["config_hash"] == f"{config.hash:08x}" and (rtl / "generator").read_text() == GENERATOR
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_rtl(rtl: Path) -> dict[str, str]:
    """File name -> text, in the order of files.f."""
    return {name: (rtl / name).read_text() for name in (rtl / "files.f").read_text().split()}
