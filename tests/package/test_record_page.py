"""docs/package.md shows the declaration of the drivers' record."""

from pathlib import Path

from vitforge_sw.compiler.program.record import FIELDS


def test_record_table():
    page = (Path(__file__).parents[2] / "docs" / "package.md").read_text()
    table = page[page.index("| field | meaning |") :].splitlines()[2:]
    assert table == [f"| `{name}` | {doc} |" for name, doc in FIELDS.items()]
