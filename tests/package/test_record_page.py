"""docs/package.md shows the declaration of the drivers' record, docs/driver.md the drivers' functions."""

import re
from pathlib import Path

from vitforge.package import reference
from vitforge_sw.compiler.program.record import FIELDS


def test_record_table():
    page = (Path(__file__).parents[2] / "docs" / "package.md").read_text()
    table = page[page.index("| field | meaning |") :].splitlines()[2:]
    assert table == [f"| `{name}` | {doc} |" for name, doc in FIELDS.items()]


def test_driver_reference():
    page = (Path(__file__).parents[2] / "docs" / "driver.md").read_text()
    assert page == reference.page(), "run python -m vitforge.package.reference docs"
    header = (reference.DRIVERS / "c" / "vitforge.h").read_text()
    functions = set(re.findall(r"^[^ /#].*?\b(vf_\w+)\(", header, re.M))
    assert len(functions) >= 12 and all(f"{name}(" in page for name in functions)
    for name in ("Accelerator.wait(timeout: float=1.0) -> Job", "class JobError(", "Record.load(", "pack_image("):
        assert name in page, name
