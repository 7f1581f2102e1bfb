"""`vitforge evaluate` on several processes: its own, and torchrun's. The same figures as on one, to the last bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vitforge.cli import main
from vitforge.shipped import shipped_model
from vitforge.workers import worth_while
from vitforge_sw.evaluate import evaluate
from vitforge_sw.graph.serialize import load_graph
from vitforge_sw.shards import Shard

DIGITS = shipped_model("digits_vit")
FIGURES = ("images", "top1", "top5", "agreement", "logit_sqnr_db")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("m") / "m.safetensors"
    quantize = ["quantize", DIGITS.model, "--checkpoint", DIGITS.checkpoint, "--calib", DIGITS.calib, "--limit", 10]
    assert main([str(a) for a in [*quantize, "-o", path]]) == 0
    return path


def command(model: Path, out: Path) -> list[str]:
    argv = ["evaluate", model, "--images", DIGITS.test, "--labels", DIGITS.labels, "--limit", 50, "--float"]
    return [str(a) for a in [*argv, "--json", out]]


def figures(path: Path) -> dict:
    found = json.loads(path.read_text())
    return {name: found[name] for name in FIGURES} | {"float": found["float"]["top1"]}


def test_the_same_figures_however_shared(model, tmp_path):
    found = {}
    for processes in (1, 2):
        out = tmp_path / f"{processes}.json"
        assert main([*command(model, out), "--processes", str(processes)]) == 0
        assert json.loads(out.read_text())["processes"] == processes
        found[processes] = figures(out)
    assert found[1]["images"] == 50 and found[1]["top1"] >= 48
    assert found[2] == found[1]
    env = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    out = tmp_path / "torchrun.json"
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "vitforge.cli"]
    done = subprocess.run([*run, *command(model, out)], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("integer: ") == 1  # one process speaks
    assert figures(out) == found[1] and json.loads(out.read_text())["processes"] == 2


def test_more_processes_than_batches(model):
    graph = load_graph(model)
    info = graph.tensors["input"]
    patches = np.zeros((9, info.tokens, info.channels), np.int8)
    with pytest.raises(ValueError, match="evaluate: processes must be at most 2, the batches of 8, not 3"):
        evaluate(graph, patches, [0] * 9, shard=Shard(0, 3))


def test_small_evaluations_stay_in_one_process(model):
    assert worth_while(load_graph(model), 400) == 1
    assert worth_while(load_graph(model), 10**9) == len(os.sched_getaffinity(0))
