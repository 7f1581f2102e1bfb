"""The campaign of scripts/fuzz.py, some thousands of its inputs; and that it would see what it looks for."""

import importlib.util
import os
import random
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: inputs, least refusals reached
COUNTS = {"checkpoints": (600, 35), "graphs": (900, 80), "configs": (1500, 28), "labels": (1500, 15),
          "images": (1000, 24), "builds": (400, 18)}  # fmt: skip


@pytest.fixture(scope="module")
def fuzz():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        spec = importlib.util.spec_from_file_location("fuzz", ROOT / "scripts" / "fuzz.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture
def folder():
    """In memory where that can be: some thousands of files are written."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as name:
        yield Path(name)


@pytest.mark.parametrize("family", COUNTS)
def test_taken_or_refused_in_one_line(fuzz, folder, family):
    count, least = COUNTS[family]
    found = fuzz.campaign(family, fuzz.family(family, folder), range(count))
    assert found["failures"] == [] and found["inputs"] == count
    assert found["container"] < 0.4 * count and found["taken"] > 0.1 * count and found["refused"] > 0.1 * count
    assert len(found["reached"]) >= least


def test_whole_commands(fuzz, folder):
    found = fuzz.campaign("commands", fuzz.family("commands", folder), range(60))
    assert found["failures"] == [] and found["refused"] > 30 and found["taken"] > 6


def test_what_is_no_refusal_is_found(fuzz):
    """A traceback, a message of two lines, an empty one: by seed; and it goes on where it was ended."""

    def one(r: random.Random) -> None:
        kind = r.randrange(4)
        if kind == 1:
            raise ValueError("first line\nsecond line")
        if kind == 2:
            raise ValueError("")
        if kind == 3:
            raise KeyError("x")

    found = fuzz.campaign("labels", one, range(200))
    assert len(found["failures"]) == 20 and found["inputs"] < 60
    kinds = {line.partition(": ")[2][:12] for line in found["failures"]}
    assert kinds == {"says 'first ", "says ''", "KeyError: 'x"}
    first = fuzz.campaign("labels", one, range(10))
    both = fuzz.campaign("labels", one, range(10, 20), first)
    assert both["inputs"] == 20 and both["failures"] == fuzz.campaign("labels", one, range(20))["failures"]


def test_refusals_are_counted_where_they_stand(fuzz):
    known = fuzz.refusals("sw/vitforge_sw/models/labels.py")
    lines = (ROOT / "sw/vitforge_sw/models/labels.py").read_text().splitlines()
    assert len(known) == sum("raise ValueError" in line for line in lines) > 8
    from vitforge_sw.models.labels import folder_classes

    met = fuzz.Reached(known)
    with pytest.raises(ValueError) as caught:
        folder_classes("here", ["a", "b"], [], 5)
    met.enter(caught.value)
    assert len(met.met) == 1 and "has {len(found)} class folders with images" in next(iter(met.met)).source


def test_refusals_said_elsewhere_are_counted_by_their_text(fuzz):
    """Faults of a configuration are collected, and raised together: each counts."""
    from vitforge_hw.arch.config import AcceleratorConfig

    known = fuzz.refusals("hw/vitforge_hw/arch/config.py hw/vitforge_hw/arch/parameter.py")
    met = fuzz.Reached(known)
    with pytest.raises(ValueError) as caught:
        AcceleratorConfig.from_dict({"base": "tiny", "cores": 3, "w4": True, "trio": True})
    met.enter(caught.value)
    texts = [x.source for x in met.met if x.says]
    for said in ("cores must be 4 to 16 with trio", "w4 must be false with trio", "even number of cores"):
        assert sum(said in text for text in texts) == 1
    assert len(known) > 20 and len(met.met) < 12


def test_the_page_names_what_was_not_reached(fuzz):
    """All that a file can reach, or its text; of what none can, the reason."""
    from fuzzing.page import UNREACHABLE, missing, page

    table = {"megabytes": 1}
    for name in fuzz.MODULES:
        known = fuzz.refusals(fuzz.MODULES[name])
        counts = dict(inputs=1, taken=1, refused=0, container=0, failures=[], slowest=[0, 0], seconds=1, reached=[])
        table[name] = counts | dict(refusals=known, not_reached={str(x): x.source for x in known})
    total, left = sum(len(table[n]["refusals"]) for n in fuzz.MODULES), missing(table)
    assert total - len(left) == len(UNREACHABLE), "every entry stands in the source, once"
    text = page(table)
    assert all(f"`{place}`" in text for place in left) and all(why in text for why in UNREACHABLE.values())
