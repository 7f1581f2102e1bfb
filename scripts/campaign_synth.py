"""Steps of the campaign that synthesise: presets for xcup from an empty cache, other targets with two Yosys."""

import os
import shutil
import tempfile
import time
from pathlib import Path
from unittest import mock

from campaign_base import ROOT, need

from vitforge.rtl import load_config
from vitforge.synth import synthesise
from vitforge_hw.arch.config import PRESETS, AcceleratorConfig, get_config
from vitforge_sim.synth.parts import PARTS, RESOURCES, part

DEBIAN = "/usr/bin/yosys"
TARGETS = ("ecp5", "xc7")
SPARE = 0.15  #: of a board's part
#: figures that a preset must keep, and minutes on two idle cores
BOUNDS = {
    "p2vit": (dict(dsp=1071, lut=150_000, bram36=500), 250, 8),
    "trio": (dict(dsp=1024, lut=230_000, bram36=730), 225, 15),
}


def synthesised(config: AcceleratorConfig, target: str) -> tuple[dict, float, float]:
    """What `vitforge synth` says, seconds from an empty cache, seconds from a full one."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, VITFORGE_CACHE=f"{folder}/cache"):
        for run in ("first", "second"):
            begin = time.monotonic()
            info = synthesise(config, Path(folder) / run, part(None, target))
            seconds.append(time.monotonic() - begin)
    return info, *seconds


def preset(name: str) -> dict:
    """A preset, or a configuration of configs/, for UltraScale+ from an empty cache and from a full one: cells, clock
    by the fan-out model before placement, the parts that it fits."""
    given = get_config(name) if name in PRESETS else load_config(None, ROOT / "configs" / f"{name}.json")
    info, first, second = synthesised(given, "xcup")
    most, mhz, minutes = BOUNDS.get(name, ({}, 0, None))
    for resource, bound in most.items():
        need(info["total"][resource] <= bound, f"{resource} is {info['total'][resource]}, must be at most {bound}")
    need(info["fmax_mhz"] >= mhz, f"clock is {info['fmax_mhz']} MHz, must be at least {mhz}")
    need(minutes is None or first < 60 * minutes, f"synthesis took {first:.0f} s, must be under {minutes} min")
    return {
        "seconds_empty_cache": round(first), "seconds_full_cache": round(second), "cores": os.cpu_count(),
        "load": round(os.getloadavg()[2], 1),
    } | figures(info) | {"parts": fits(info)}  # fmt: skip


def board(name: str) -> dict:
    """DeiT-Tiny's configuration of a board (configs/) for its part, whole: at most 85 % of every resource."""
    info, _, _ = synthesised(load_config(None, ROOT / "configs" / f"{name}.json"), "xcup")
    shares = {r: info["total"][r] / n for r in RESOURCES if (n := getattr(part(name, "xcup"), r))}
    for resource, share in shares.items():
        need(share <= 1 - SPARE, f"{resource} is {share:.0%} of a {name}, must be at most {1 - SPARE:.0%}")
    return figures(info) | {"shares": {r: round(share, 3) for r, share in shares.items()}}


def figures(info: dict) -> dict:
    return {key: info[key] for key in ("tool", "total", "fmax_mhz", "fmax_mhz_148", "fmax_mhz_250")}


def fits(info: dict) -> dict[str, str]:
    """Part of the target -> "fits", or what there is too much of."""
    those = (p for p in PARTS.values() if p.target == info["target"])
    return {p.name: ", ".join(p.misfits(info["total"])) or "fits" for p in those}


def targets(name: str) -> dict:
    """A preset for ECP5 and 7-series, with PyPI's Yosys and with Debian's: both take every block; cells, and the parts
    that it fits. 8-bit products take a multiplier each where the target has none that packs two (docs/silicon.md)."""
    need(shutil.which(DEBIAN) is not None, f"{DEBIAN} is not installed: apt-get install yosys")
    found = {}
    for target in TARGETS:
        for tool in (None, DEBIAN):
            with mock.patch.dict(os.environ, {"VITFORGE_YOSYS": tool} if tool else {}):
                info, seconds, _ = synthesised(get_config(name), target)
            found[f"{target}, {info['tool']}"] = {
                "seconds": round(seconds), "total": info["total"], "parts": fits(info),
            }  # fmt: skip
    return found


STEPS = {
    **{f"synth_{name}": (preset, name) for name in (*PRESETS, "trio_two_words")},
    **{f"synth_{name}": (board, name) for name in ("kv260", "zcu104")},
    "synth_targets": (targets, "tiny_hybrid"),
}
