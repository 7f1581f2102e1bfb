"""What README, CONTRIBUTING and docs name is there: links and their anchors, paths, make targets, commands."""

import re
import subprocess
from pathlib import Path

import pytest

from vitforge import commands

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)
#: folders that a path may begin at when it does not begin at the top: the table's rows name the rest of it
FILES = [p.relative_to(ROOT).as_posix() for top in ("hw", "sw", "sim", "tests", "scripts", "boards", "docs")
         for p in (ROOT / top).rglob("*.*")]  # fmt: skip
BASES = ("", *(f"sw/vitforge_sw/{f}" for f in ("", "families", "families/*", "kinds")), "hw/vitforge_hw")


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as forges make them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in heads}


def broken_links(page: Path, text: str) -> list[str]:
    bad = []
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", text):
        if "://" in target or target.startswith("mailto:"):
            continue
        path = page.parent / target if target else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            bad.append(f"{page.name}: {target}#{anchor}")
    return bad


def missing_names(text: str) -> list[str]:
    """Of the names in backquotes: paths of this repository, make targets and commands that do not exist."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    bad = []
    for name in re.findall(r"`([^`\n]+)`", text):
        if match := re.fullmatch(r"make ([a-z]+)", name):
            bad += [name] * (match[1] not in targets)
        elif match := re.match(r"(?:\.venv/bin/)?vitforge ([a-z]+)\b", name):
            bad += [name] * (match[1] not in commands.NAMES)
        elif re.fullmatch(r"(hw|sw|sim|tests|scripts|docs|\.ci|\.github)/[\w./*-]+", name) or re.fullmatch(
            r"[\w/]+\.(py|sh|lock)", name
        ):
            shown = re.sub(r"\b(NAME|X|FAMILY)\b", "*", name)
            bad += [name] * (not any(list(ROOT.glob(f"{base}/{shown}".strip("/"))) for base in BASES))
    return bad


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links(page):
    assert not broken_links(page, page.read_text())


@pytest.mark.parametrize("page", PAGES[:2], ids=lambda p: p.name)
def test_names(page):
    assert not missing_names(page.read_text())


@pytest.mark.parametrize("page", PAGES[:2] + PAGES[3:], ids=lambda p: p.name)
def test_files_named_are_there(page):
    """Also those that a page names by the end of their path alone, a star for any letters."""
    for name in re.findall(r"`([\w/*]+\.(?:py|sh|cpp))`", page.read_text()):
        pattern = re.compile("/" + re.escape(name.replace("NAME", "*")).replace(r"\*", "[^/]*") + "$")
        assert any(pattern.search(f"/{file}") for file in FILES), name


def test_table_of_changes():
    """Every line of the README's table says where, by paths, and what tells if it is right."""
    table = (ROOT / "README.md").read_text().partition("## To change or add something")[2]
    rows = [line.split("|")[2:4] for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 7
    for where, check in rows:
        assert re.search(r"`(hw|sw|sim)/", where) and "`" in check, (where, check)
    for folder in re.findall(r"`(engines|post|attention|layernorm|host|units)`", table):
        assert (ROOT / "hw" / "vitforge_hw" / folder).is_dir() and (ROOT / "tests" / "hw" / folder).is_dir()


def test_docs_index():
    index = (ROOT / "docs" / "README.md").read_text()
    missing = [p.name for p in (ROOT / "docs").glob("*.md") if p.name != "README.md" and f"({p.name})" not in index]
    assert not missing, f"docs/README.md does not list {missing}"


def test_glossary_says_each_word_once():
    words = re.findall(r"^\| \*\*([^*|]+)\*\*", (ROOT / "docs" / "glossary.md").read_text(), re.M)
    twice = {w for w in words if words.count(w) > 1} - {"memory image"}  # listed where image is told from image
    assert len(words) > 50 and not twice, twice


def test_the_checks_can_fail(tmp_path):
    assert broken_links(ROOT / "README.md", "[a](docs/none.md) [b](docs/demo.md) [c](docs/demo.md#nowhere)") == [
        "README.md: docs/none.md#",
        "README.md: docs/demo.md#nowhere",
    ]
    text = "`make tea`, `make test`, `vitforge brew x`, `vitforge check m`, `hw/none.py`, `arch/config.py`, `tests/sw`"
    assert missing_names(text) == ["make tea", "vitforge brew x", "hw/none.py"]


def test_pre_commit_and_forge_run_what_make_runs():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert "ruff check" in hooks and "-m mypy" in hooks
    assert "run: .ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    done = subprocess.run(["make", "-n", "lint"], cwd=ROOT, capture_output=True, text=True)
    assert "ruff check" in done.stdout and "-m mypy" in done.stdout
