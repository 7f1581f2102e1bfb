"""Writes requirements.lock: the exact version of every package that `vitforge[dev]` needs, as installed here.

To move to newer packages: install them into .venv (torch and torchvision together), run the tests, then

    .venv/bin/python scripts/lock.py

Versions only, no hashes: the wheels of torch and of the simulators differ from platform to platform.
"""

import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
HEAD = """# The exact versions that vitforge is tested with. scripts/setup.sh installs from this file alone;
# scripts/lock.py writes it from an installed environment. PyTorch comes first: before anything that asks for it.
"""
FIRST = ("torch", "torchvision")


def required() -> list[Requirement]:
    """What pyproject.toml asks for, the development tools and the build back end included."""
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = data["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["dev"], *data["build-system"]["requires"]]
    return [Requirement(line) for line in lines]


def closure() -> dict[str, str]:
    """Name -> installed version (without a local part such as +cpu) of everything that `required` needs, directly or
    not, on this platform."""
    found: dict[str, str] = {}
    wanted = [(r, "") for r in required()]
    seen = set()
    while wanted:
        requirement, extra = wanted.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        found[name] = metadata.version(name).split("+")[0]
        for wish in ("", *requirement.extras):
            if (name, wish) not in seen:
                seen.add((name, wish))
                wanted += [(Requirement(line), wish) for line in metadata.requires(name) or ()]
    return found


def text(versions: dict[str, str]) -> str:
    """The lock file."""
    order = sorted(versions, key=lambda name: (name not in FIRST, name))
    return HEAD + "".join(f"{name}=={versions[name]}\n" for name in order)


if __name__ == "__main__":
    LOCK.write_text(text(closure()))
    print(f"{LOCK.name}: {len(closure())} packages")
