"""The campaign of scripts/fuzz.py, some thousands of its inputs; and that it would see what it looks for."""

import importlib.util
import random
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz", ROOT / "scripts" / "fuzz.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def material(fuzz, tmp_path_factory):
    return fuzz.Material(tmp_path_factory.mktemp("fuzz"))


#: inputs (the suite's own tests of tests/sw/models take checkpoints, labels and images), least refusals reached
COUNTS = {"graphs": (250, 10), "configs": (800, 4), "builds": (250, 4), "labels": (200, 3), "images": (200, 1)}


@pytest.mark.parametrize("family", COUNTS)
def test_taken_or_refused_in_one_line(fuzz, material, family):
    count, least = COUNTS[family]
    found = fuzz.campaign(family, getattr(material, family), count, time.monotonic() + 300)
    assert found["failures"] == [] and found["inputs"] == count
    assert found["past_container"] > 0.5 and found["taken"] > count / 20 and found["refused"] > count / 20
    assert found["reached"] >= least


def test_whole_commands(fuzz, material):
    found = fuzz.campaign("commands", material.commands, 40, time.monotonic() + 300)
    assert found["failures"] == [] and found["refused"] > 10


@pytest.mark.parametrize("seed", [10, 298, 642])
def test_what_the_campaign_has_found(fuzz, material, seed):
    """Labels that are no instruction's, a graph whose meta is a number, instructions without a step."""
    assert fuzz.campaign("commands", material.commands, 1, time.monotonic() + 60, seed)["failures"] == []


def test_what_is_no_refusal_is_found(fuzz):
    """A traceback, a message of two lines, an empty one: by seed."""

    def one(r: random.Random) -> None:
        kind = r.randrange(4)
        if kind == 1:
            raise ValueError("first line\nsecond line")
        if kind == 2:
            raise ValueError("")
        if kind == 3:
            raise KeyError("x")

    found = fuzz.campaign("labels", one, 200, time.monotonic() + 60)
    assert len(found["failures"]) == 20 and found["inputs"] < 60
    kinds = {line.partition(": ")[2][:12] for line in found["failures"]}
    assert kinds == {"says 'first ", "says ''", "KeyError: 'x"}


def test_refusals_are_counted_where_they_stand(fuzz):
    known = fuzz.sites("sw/vitforge_sw/models/labels.py")
    lines = (ROOT / "sw/vitforge_sw/models/labels.py").read_text().splitlines()
    assert len(known) == sum("raise ValueError" in line for line in lines) > 8
    met = set()
    from vitforge_sw.models.labels import folder_classes

    with pytest.raises(ValueError) as caught:
        folder_classes("here", ["a", "b"], [], 5)
    met = fuzz.reached(caught.value, known)
    assert len(met) == 1 and lines[next(iter(met))[1] - 1].strip().startswith("raise ValueError")
