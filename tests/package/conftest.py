"""A demo model compiled for `tiny`, and what `vitforge package` makes of it."""

import pytest

from vitforge import api
from vitforge.cli import main
from vitforge.rtl import load_config
from vitforge.shipped import shipped_model


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    paths, folder = shipped_model("digits_vit"), tmp_path_factory.mktemp("package") / "build"
    model = api.load_float(str(paths.model), paths.checkpoint)
    graph = api.quantize(model, paths.calib, "vitforge", limit=8, progress=False)
    api.compile_model(graph, load_config("tiny", None), folder)
    return folder


@pytest.fixture(scope="session")
def packaged(build):
    assert main(["package", str(build), "--board", "zcu104", "-o", str(build / "vivado")]) == 0
    return build / "vivado"
