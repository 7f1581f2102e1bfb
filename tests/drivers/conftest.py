"""Both demo models compiled for `tiny_hybrid`, golden logits of three images, the board that drivers run on, and the
drivers as a user gets them: the Python wheel built from its own folder, the C sources through gcc."""

import dataclasses
import importlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from vitforge import api
from vitforge.rtl import load_config
from vitforge.shipped import shipped_model
from vitforge.simulation import prepare
from vitforge_sim.run.link import Link, Memory, System
from vitforge_sim.run.topbench import MemorySettings
from vitforge_sw.compiler import Build, CompileOptions
from vitforge_sw.graph.serialize import load_graph
from vitforge_sw.models.files import list_images
from vitforge_sw.models.images import ImageConfig, input_pixels

DRIVERS = Path(api.__file__).parent / "drivers"
IMAGES = 3


@dataclasses.dataclass
class Model:
    """A compiled demo model: build directory, pixels (uint8) of three images, golden logits as integers."""

    name: str
    folder: Path
    pixels: list[np.ndarray]
    stored: np.ndarray
    jobs: list[bytes]
    build: Build

    @property
    def record(self) -> dict:
        return json.loads((self.folder / "build.json").read_text())["driver"]


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> dict[str, Model]:
    folder, found = tmp_path_factory.mktemp("drivers"), {}
    for name in ("digits_vit", "digits_efficientvit"):
        paths = shipped_model(name)
        graph = api.quantize(api.load_float(str(paths.model), paths.checkpoint), paths.calib, "vitforge",
                             limit=16, progress=False)  # fmt: skip
        build = api.compile_model(graph, load_config("tiny_hybrid", None), folder / name)
        files = list_images(paths.test)[5 : 5 + IMAGES]
        image = ImageConfig.from_dict(graph.meta["image"])
        patches = api.load_inputs(graph, files)
        packed = [api.pack(graph, build, p[None]) for p in patches]
        stored = np.stack([api.unpack(build, result)[0] for _, result in packed])
        pixels = [input_pixels(f, image) for f in files]
        found[name] = Model(name, folder / name, pixels, stored, [job for job, _ in packed], build)
    return found


@pytest.fixture(scope="session")
def deferred(models, tmp_path_factory) -> Model:
    """The EfficientViT in jobs of two images, each job's logits with the next job's status."""
    one, folder = models["digits_efficientvit"], tmp_path_factory.mktemp("drivers") / "deferred"
    graph = load_graph(one.folder / "model.safetensors")
    options = CompileOptions(batch=2, defer=True)
    build = api.compile_model(graph, load_config("tiny_hybrid", None), folder, options=options)
    return dataclasses.replace(one, folder=folder, build=build, jobs=[])


@pytest.fixture(scope="session")
def another(models, tmp_path_factory) -> Path:
    """Build directory of another ViT of the same shape: calibrated with fewer images."""
    paths, folder = shipped_model("digits_vit"), tmp_path_factory.mktemp("drivers") / "another"
    graph = api.quantize(api.load_float(str(paths.model), paths.checkpoint), paths.calib, "vitforge",
                         limit=4, progress=False)  # fmt: skip
    api.compile_model(graph, load_config("tiny_hybrid", None), folder)
    return folder


@pytest.fixture(params=["digits_vit", "digits_efficientvit"])
def model(request, models) -> Model:
    return models[request.param]


@pytest.fixture(scope="session")
def board(models, tmp_path_factory):
    """The simulation program: the one that the demo's images run on."""
    return prepare(models["digits_vit"].build, tmp_path_factory.mktemp("board"), "verilator", IMAGES)


@pytest.fixture
def link(board):
    """A board under power; what its memory saw breaks no AXI rule."""
    with Link(board) as link:
        yield link
        assert "AXI_ERROR" not in link.close()


@pytest.fixture(params=[100, 400, 2000])
def slow_link(request, board):
    """A board whose memory goes on when the fabric is reset, as a Zynq's does, at several latencies."""
    with Link(board, MemorySettings(latency=request.param, keep_reset=True)) as link:
        yield link
        assert "AXI_ERROR" not in link.close()


@pytest.fixture
def system(link):
    return System(link)


@pytest.fixture
def memory(link):
    return Memory(link)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """The small wheel."""
    folder = tmp_path_factory.mktemp("driver_wheel")
    source = folder / "source"
    for path in (DRIVERS / "python").rglob("*"):
        if path.is_file() and path.suffix in (".py", ".toml"):
            (source / path.relative_to(DRIVERS / "python")).parent.mkdir(parents=True, exist_ok=True)
            (source / path.relative_to(DRIVERS / "python")).write_bytes(path.read_bytes())
    argv = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q", "-w", folder]
    done = subprocess.run([*argv, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def driver(wheel):
    """The package vitforge_driver, imported from its wheel."""
    sys.path.insert(0, str(wheel))
    try:
        return importlib.import_module("vitforge_driver")
    finally:
        sys.path.remove(str(wheel))


@pytest.fixture(scope="session")
def wheel_names(wheel) -> list[str]:
    return zipfile.ZipFile(wheel).namelist()
