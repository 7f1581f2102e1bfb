"""The wheel as a user gets it: built, installed beside another timm, `vitforge demo` in a folder outside the checkout.

    .venv/bin/python scripts/wheel.py --timm 1.0.25 -o build/wheel

The new environment has the wheel and that timm of its own; every other package is this environment's (torch is not
installed twice), and each is checked against the range that the wheel's metadata states. `--model` runs the demo on one
of its models. Writes DIR/wheel.json.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: run in the new environment: what is installed where, and what does not lie in the wheel's ranges
LOOK = """
import importlib.util, json, pathlib, vitforge, vitforge_hw, vitforge_sim, vitforge_sw
from importlib import metadata
from packaging.requirements import Requirement
rules = [Requirement(r) for r in metadata.requires("vitforge")]
rules = [r for r in rules if r.marker is None or r.marker.evaluate({"extra": ""})]
versions = {r.name: metadata.version(r.name) for r in rules}
print(json.dumps(dict(
    versions=versions, timm=importlib.util.find_spec("timm").origin,
    outside=[f"{r} has {versions[r.name]}" for r in rules if versions[r.name] not in r.specifier],
    places=[str(pathlib.Path(m.__file__).parent) for m in (vitforge, vitforge_hw, vitforge_sw, vitforge_sim)])))
"""


def run(argv: list, **more) -> str:
    """Its output; RuntimeError with its end if it fails."""
    done = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, argv))}: status {done.returncode}\n{done.stdout[-3000:]}")
    return done.stdout


def tracked(folder: Path) -> Path:
    """A copy of the tracked files: nothing that lies about in the checkout gets into the wheel."""
    for name in filter(None, run(["git", "-C", ROOT, "ls-files", "-z"]).split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    return folder


def installed(folder: Path, timm: str) -> Path:
    """A new environment with the wheel and a timm; the folder of its programs."""
    pip = [sys.executable, "-m", "pip"]
    source = tracked(folder / "source")
    run([*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, source])
    run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"])
    site = next((folder / "venv" / "lib").glob("python3*")) / "site-packages"
    wheel = next(folder.glob("vitforge-*.whl"))
    run([*pip, "--python", folder / "venv" / "bin" / "python", "install", "-q", "--no-deps", wheel, f"timm=={timm}"])
    shared = [p for p in sys.path if p.endswith("-packages") and Path(p) != site]
    shared = shared or [sysconfig.get_path("purelib")]
    (site / "shared.pth").write_text("\n".join(shared) + "\n")
    return folder / "venv" / "bin"


def check(folder: Path, timm: str, model: str | None) -> dict:
    """What was installed and what the demo said. RuntimeError: what does not hold."""
    shutil.rmtree(folder, ignore_errors=True)
    elsewhere = folder / "a folder elsewhere"
    elsewhere.mkdir(parents=True)
    programs = installed(folder, timm)
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    found = json.loads(run([programs / "python", "-c", LOOK], cwd=elsewhere, env=env))
    own = str(folder / "venv")
    for place in (*found["places"], found["timm"]):
        if not place.startswith(own):
            raise RuntimeError(f"{place} is taken, not what lies in {own}")
    if found["outside"] or found["versions"]["timm"] != timm:
        raise RuntimeError(f"outside of the wheel's ranges: {found['outside']}, timm {found['versions']['timm']}")
    begin = time.monotonic()
    said = run([programs / "vitforge", "demo", *(["--model", model] if model else [])], cwd=elsewhere, env=env)
    figures = json.loads((elsewhere / "build" / "demo" / "demo.json").read_text())
    return found | {"demo_seconds": round(time.monotonic() - begin), "said": said.splitlines()[-12:], "demo": figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timm", default="1.0.25", help="version beside which it is installed (default: %(default)s)")
    parser.add_argument("--model", help="of the demo (default: all)")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "build" / "wheel", help="(default: build/wheel)")
    args = parser.parse_args()
    folder = args.output.resolve()
    info = check(folder, args.timm, args.model)
    (folder / "wheel.json").write_text(json.dumps(info, indent=1) + "\n")
    print("\n".join(info["said"]))
    print(f"wheel: demo passed from {folder / 'venv'} with timm {args.timm} in {info['demo_seconds']} s")


if __name__ == "__main__":
    main()
