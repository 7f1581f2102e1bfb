"""From a configuration to Verilog files: every block once, the top level last."""

import json
import os
from pathlib import Path

from .arch import isa, registers
from .arch.config import AcceleratorConfig
from .emit import convert, emitting
from .top import TOP, Top

SCHEMA = "vitforge/verilog/1"


def emit(config: AcceleratorConfig) -> dict[str, str]:
    """File name -> Verilog text, children before parents; byte-identical for the same configuration."""
    with emitting() as modules:
        top = Top(config)
        text = convert(top, TOP, ports=top.ports)
    return {f"{name}.v": body for name, body in {**modules, TOP: text}.items()}


def write(config: AcceleratorConfig, folder: Path, command: str = "") -> dict:
    """Write ``rtl/*.v``, ``rtl/files.f`` and ``rtl/verilog.json`` below ``folder``; returns the JSON's content.

    Files are written under temporary names and renamed; the JSON, which the next step looks for, comes last.
    """
    rtl = Path(folder) / "rtl"
    files = emit(config)
    rtl.mkdir(parents=True, exist_ok=True)
    for stale in rtl.glob("*.v"):
        if stale.name not in files:
            stale.unlink()
    info = {
        "schema": SCHEMA,
        "command": command,
        "preset": config.name,
        "config": json.loads(config.to_json()),
        "config_hash": f"{config.hash:08x}",
        "top": TOP,
        "files": list(files),
        "registers": {r.name: r.offset for r in registers.REGISTERS.values()},
        "chunks": [c.name.lower() for c in isa.Chunk],
    }
    texts = {**files, "files.f": "".join(f"{n}\n" for n in files), "verilog.json": json.dumps(info, indent=1)}
    for name, text in texts.items():
        temporary = rtl / f".{name}.{os.getpid()}"
        temporary.write_text(text)
        os.replace(temporary, rtl / name)
    return info
