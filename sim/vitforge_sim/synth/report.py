"""What is measured of a design, as the dictionary that synth.json holds, and as lines to read."""

import re
from collections import Counter
from collections.abc import Mapping

import numpy as np

from .delays import FanOut, PerNet, megahertz
from .design import Design
from .netlist import Netlist, count
from .parts import Part
from .timing import Path, Timing

PATHS = 10
FLOOR = 200  #: nets with fewer loads are not listed, except the highest
Sources = Mapping[str, Mapping[str, str]]  #: block -> signal -> "file:line"


def resources(netlists: Mapping[str, Netlist], instances: Counter) -> dict:
    """``total`` and ``modules`` of synth.json."""
    modules = {n: {"instances": instances[n], **count(netlists[n].cells)} for n in netlists}
    modules = dict(sorted(modules.items(), key=lambda m: (-m[1]["instances"] * m[1]["lut"], m[0])))
    names = [r for r in next(iter(modules.values())) if r != "instances"]
    total = {r: sum(m["instances"] * m[r] for m in modules.values()) for r in names}
    return {"total": total, "modules": modules}


def timing(design: Design, sources: Sources) -> dict:
    """Clocks by the three models, the longest paths, nets of many loads, paths from input to output pins."""
    model = FanOut()
    slow = Timing(design, model)
    loaded = np.argsort(-design.loads, kind="stable")[:PATHS]
    nets = [{"loads": int(design.loads[n]), **_where(design.name(int(n)), sources)} for n in loaded]
    return {
        "estimate": "before placement; " + model.name,
        "fmax_mhz": round(megahertz(slow.period), 1),
        "fmax_mhz_148": round(megahertz(Timing(design, PerNet(148)).period), 1),
        "fmax_mhz_250": round(megahertz(Timing(design, PerNet(250)).period), 1),
        "worst_paths": [_describe(path, design, sources) for path in slow.worst(PATHS)],
        "max_fanout": nets[0]["loads"],
        "nets": [net for i, net in enumerate(nets) if not i or net["loads"] >= FLOOR],
        "input_to_output": design.through(),
    }


def _where(place: tuple[str, str, str], sources: Sources) -> dict:
    path, block, signal = place
    line = sources.get(block, {}).get(re.sub(r"\[\d+\]$", "", signal).lstrip("\\").strip())
    return {"instance": path, "module": block, "signal": signal, "source": line}


def _describe(path: Path, design: Design, sources: Sources) -> dict:
    named, last = [], None
    for net in path.nets[1:]:
        instance, block, signal = design.name(net)
        signal = re.sub(r"\[\d+\]$", "", signal)
        if not re.fullmatch(r"net\d+", signal) and (instance, signal) != last:
            last = (instance, signal)
            named.append(_where((instance, block, signal), sources))
    return {
        "ns": round(path.period / 1000, 3),
        "levels": path.levels,
        "max_fanout": int(max(design.loads[n] for n in path.nets)),
        "start": _where(design.name(path.nets[0]), sources),
        "end": _where(design.end_name(path.end), sources),
        "through": named,
    }


def lines(info: dict, part: Part) -> list[str]:
    """One screen: the modules with the most LUTs, the total against the part, clocks, paths, nets."""
    columns = ["dsp", "lut", "lutram", "ff", "bram36", "uram"]
    head = f"{'module':42}{'n':>5}" + "".join(f"{c:>9}" for c in columns)
    out = [head]
    modules = list(info["modules"].items())
    for name, m in modules[:14]:
        out.append(f"{name:42}{m['instances']:5}" + "".join(f"{m[c]:9g}" for c in columns))
    if len(modules) > 14:
        out.append(f"... and {len(modules) - 14} more, all in synth.json (a row counts one instance)")
    total = info["total"]
    out.append(f"{'total':47}" + "".join(f"{total[c]:9g}" for c in columns))
    limits = {"dsp": part.dsp, "lut": part.lut, "lutram": 0, "ff": part.ff, "bram36": part.bram36, "uram": part.uram}
    shares = [f"{100 * total[c] / limits[c]:.0f} %" if limits[c] else "" for c in columns]
    out.append(f"{'of ' + part.name:47}" + "".join(f"{s:>9}" for s in shares))
    out.append(f"does not fit: {', '.join(info['misfits'])}" if info["misfits"] else f"fits {part.name}")
    if "worst_paths" in info:
        out += _clock_lines(info)
    return out


def _clock_lines(info: dict) -> list[str]:
    out = [
        f"clock, estimated before placement: {info['fmax_mhz']} MHz (fan-out model); "
        f"{info['fmax_mhz_148']} and {info['fmax_mhz_250']} MHz (road A, 148 and 250 ps a net)"
    ]
    for path in info["worst_paths"]:
        ends = [f"{p['source'] or p['module']} {_signal(p)}" for p in (path["start"], path["end"])]
        out.append(f"  {path['ns']:.2f} ns {path['levels']:2} levels  {' -> '.join(ends)}")
    net = info["nets"][0]
    out.append(f"most loads: {net['loads']} on {net['source'] or net['module']} {_signal(net)}")
    if through := info["input_to_output"]:
        out.append(f"without a register from input to output: {', '.join(f'{a} -> {b}' for a, b in through[:4])}")
    return out


def _signal(place: dict) -> str:
    return f"{place['instance']}.{place['signal']}".lstrip(".")
