"""Whole commands in this process, with files of the other families: status, standard error, what is left behind."""

import contextlib
import io
import json
import random
import shutil
from pathlib import Path

from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file

from vitforge.cli import main as vitforge
from vitforge_sw.graph.serialize import load_graph

from .builds import Builds
from .changes import changed
from .checkpoints import ARGS, Checkpoints
from .configs import Configs
from .graphs import Graphs

_HUB = {"architecture": "vit_tiny_patch16_224", "model_args": ARGS, "num_classes": 3,
        "pretrained_cfg": {"mean": [0.5], "std": [0.5], "input_size": [1, 16, 16]}}  # fmt: skip


def run(argv: list[object]) -> tuple[int, str]:
    """(status, standard error)"""
    said, shown = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(shown):
        try:
            status = vitforge([str(a) for a in argv])
        except SystemExit as stop:
            status = stop.code
    return int(status or 0), said.getvalue()


class Commands:
    """A command that is right but for one of its files; what it says of a refusal is raised again."""

    def __init__(self, folder: Path) -> None:
        parts = {name: folder / name for name in ("graphs", "configs", "builds", "checkpoints", "images")}
        for path in parts.values():
            path.mkdir()
        self.graphs, self.configs = Graphs(parts["graphs"]), Configs(parts["configs"])
        self.checkpoints = Checkpoints(parts["checkpoints"])
        self.images, self.out, self.hub = parts["images"], folder / "out", folder / "tiny.json"
        self.model, self.json = folder / "model.safetensors", folder / "changed.json"
        for i, name in enumerate(("a.png", "b.png")):
            Image.effect_noise((16, 16), 40 + 30 * i).save(self.images / name)
        self.labels = folder / "l.csv"
        self.labels.write_text("file,label\na.png,0\nb.png,1\n")
        self.hub.write_text(json.dumps(_HUB))
        status, said = run(["quantize", self.hub, "--calib", self.images, "-o", self.model])
        assert not status, said
        with safe_open(self.model, "np") as file:
            self.whole = [(load_file(self.model), json.loads(file.metadata()["vitforge"]))]
        self.builds = Builds(parts["builds"], load_graph(self.model))

    def quantized(self, r: random.Random) -> Path:
        return self.graphs.file(r, self.whole if r.random() < 0.7 else ())

    def config(self, r: random.Random) -> Path:
        """Of `tiny`, mostly: the model would fit."""
        path = self.configs.file(r)
        return path if r.random() < 0.3 else self.changed(r, {"base": "tiny", "max_tokens": 32, "pool_rows": 512})

    def changed(self, r: random.Random, data: object) -> Path:
        self.json.write_text(json.dumps(changed(r, data, ["tiny", "p2vit", "bicubic"])))
        return self.json

    def weights(self, r: random.Random) -> Path:
        c = self.checkpoints
        c.path.write_bytes(r.choice([c.pickled, c.safetensors, c.safetensors])(r, c.states["vit"]))
        return c.path

    def result(self, r: random.Random) -> Path:
        """Bytes of a result, of about its length."""
        path = self.json.with_name("result.bin")
        path.write_bytes(r.randbytes(self.builds.build.result_bytes + r.choice([0, 0, 0, 1, -1, 1 << 10])))
        return path

    def argv(self, r: random.Random) -> list[object]:
        out, images, labels = self.out, self.images, self.labels
        calib = ["--calib", images, "-o", out]
        return r.choice([
            lambda: ["compile", self.quantized(r), "--preset", "tiny", "-o", out],
            lambda: ["compile", self.quantized(r), "--preset", "tiny", "-o", out],
            lambda: ["compile", self.model, "--config", self.config(r), "-o", out],
            lambda: ["evaluate", self.quantized(r), "--images", images, "--labels", labels, "--json", out],
            lambda: ["check", self.hub, "--config", self.config(r), "-o", out],
            lambda: ["check", self.changed(r, _HUB), "--preset", "tiny"],
            lambda: ["quantize", self.hub, "--checkpoint", self.weights(r), *calib],
            lambda: ["quantize", self.changed(r, _HUB), *calib],
            lambda: ["estimate", self.builds.file(r)],
            lambda: ["simulate", self.builds.file(r), "--images", images / "none"],
            lambda: ["pack", self.builds.file(r), "--image", images / "a.png", "-o", out],
            lambda: ["unpack", self.builds.file(r), self.result(r)],
        ])()  # fmt: skip

    def __call__(self, r: random.Random) -> None:
        argv = self.argv(r)
        status, said = run(argv)
        made = self.out.exists()
        if made:
            shutil.rmtree(self.out) if self.out.is_dir() else self.out.unlink()
        left = [p.name for p in self.out.parent.iterdir() if p.name.startswith(".")]
        assert not left, f"{argv[0]} has left {left}"
        if status:
            lines = [x for x in said.splitlines() if x.strip()]
            refused = status == 2 and lines and lines[-1].startswith("vitforge ")
            no = argv[0] == "check" and status == 1 and not lines  # the verdict: does not fit
            assert refused or no, f"{argv[0]}: status {status}, {said!r}"
            assert not made or no, f"{argv[0]} has failed and left something at its output"
            raise ValueError(lines[-1] if lines else "check: does not fit, as it says")
