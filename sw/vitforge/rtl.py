"""The generated Verilog of a configuration: emitted once per configuration and generator version, then reused."""

import hashlib
import json
import shutil
import tempfile
from pathlib import Path

import vitforge_hw
from vitforge_hw.arch.config import AcceleratorConfig, get_config
from vitforge_sim.run.build import cache_folder

from .progress import working


def load_config(preset: str | None, config: str | Path | None) -> AcceleratorConfig:
    """A preset by name, or a JSON file of AcceleratorConfig fields. Exactly one must be given."""
    if (preset is None) == (config is None):
        raise ValueError("configuration: give either --preset NAME or --config FILE")
    if preset is not None:
        return get_config(preset)
    try:
        data = json.loads(Path(config).read_text())
    except OSError as error:
        raise ValueError(f"config file {config}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise ValueError(f"config file {config}: must be JSON") from None
    if not isinstance(data, dict):
        raise ValueError(f"config file {config}: must be a JSON object, not {type(data).__name__}")
    return AcceleratorConfig.from_dict(data)


def generator_hash() -> str:
    """SHA-256 over the sources of vitforge_hw: Verilog of another generator is not reused."""
    digest = hashlib.sha256()
    root = Path(vitforge_hw.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def ensure_rtl(
    config: AcceleratorConfig, folder: Path, command: str = "", progress: bool = False, primitives: str = ""
) -> dict[str, str]:
    """Verilog in ``folder/rtl`` for this configuration, emitted only where it is missing or stale.

    ``primitives``: as in ``vitforge_hw.verilog.emit``. Returns file name -> text. The emission is cached
    beside the simulation builds (VITFORGE_CACHE).
    """
    rtl = Path(folder) / "rtl"
    generator = generator_hash()
    if not _current(rtl, config, generator, primitives):
        form = f"{config.name}-{primitives}" if primitives else config.name
        cached = cache_folder() / f"rtl-{form}-{config.hash:08x}-{generator}"
        if not _current(cached / "rtl", config, generator, primitives):
            from vitforge_hw.verilog import write

            shown = working(f"emitting Verilog of {config.name}", progress)
            with shown, tempfile.TemporaryDirectory(dir=cache_folder()) as temporary:
                write(config, Path(temporary) / "new", command, primitives)
                (Path(temporary) / "new" / "rtl" / "generator").write_text(generator)
                shutil.rmtree(cached, ignore_errors=True)
                shutil.move(Path(temporary) / "new", cached)
        shutil.copytree(cached / "rtl", rtl, dirs_exist_ok=True)
    return read_rtl(rtl)


def _current(rtl: Path, config: AcceleratorConfig, generator: str, primitives: str) -> bool:
    try:
        info = json.loads((rtl / "verilog.json").read_text())
        files = all((rtl / name).exists() for name in info["files"])
        files = files and info["primitives"] == primitives
        return files and info["config_hash"] == f"{config.hash:08x}" and (rtl / "generator").read_text() == generator
    except (OSError, ValueError, KeyError):
        return False


def read_rtl(rtl: Path) -> dict[str, str]:
    """File name -> text, in the order of files.f."""
    return {name: (rtl / name).read_text() for name in (rtl / "files.f").read_text().split()}
