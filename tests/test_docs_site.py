"""The documentation builds as a site without a warning, every page is in the navigation, no link leads nowhere."""

import html.parser
import inspect
import re
import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest

import vitforge

ROOT = Path(__file__).resolve().parents[1]
BUILD = [sys.executable, "-m", "mkdocs", "build", "--strict"]


class Page(html.parser.HTMLParser):
    """Links, what is fetched, and anchors of an HTML page."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.anchors |= {a[k] for k in ("id", "name") if a.get(k)}
        if tag == "a" and a.get("href"):
            self.links.append(a["href"])
        if tag in ("script", "img", "iframe") and a.get("src"):
            self.fetched.append(a["src"])
        if tag == "link" and a.get("rel") in ("stylesheet", "preload", "icon"):
            self.fetched.append(a["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run([*BUILD, "--site-dir", folder], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING -" not in done.stdout + done.stderr, done.stderr
    return folder


def test_every_page_is_in_the_navigation(site):
    start = Page((site / "index.html" if (site / "index.html").exists() else site / "README.html").read_text())
    listed = {Path(link.partition("#")[0]).stem for link in start.links if "://" not in link}
    pages = {p.stem for p in (ROOT / "docs").glob("*.md")} - {"README"}
    assert pages <= listed, pages - listed


def test_no_dead_links(site):
    pages = {p: Page(p.read_text()) for p in site.rglob("*.html") if p.name != "404.html"}
    assert len(pages) >= 19
    dead = []
    for path, page in pages.items():
        for link in page.links + page.fetched:
            target, _, anchor = link.partition("#")
            if re.match(r"\w+:", link):
                continue
            found = (path.parent / urllib.parse.unquote(target)).resolve() if target else path
            if not found.exists() or (anchor and found in pages and urllib.parse.unquote(anchor)
                                      not in pages[found].anchors | {"__consent"}):  # fmt: skip
                dead.append(f"{path.name}: {link}")
    assert not dead, dead


def test_lists_are_lists(site):
    """A line of a paragraph that starts as an item is a list that was not recognised."""
    for path in site.rglob("*.html"):
        for paragraph in re.findall(r"<p>(.*?)</p>|<li>(.*?)<", path.read_text(), re.DOTALL):
            assert not re.search(r"\n *([-*+]|\d+\.) ", "".join(paragraph)), (path.name, paragraph)
    quantization = (site / "quantization.html").read_text()
    assert re.search(r"<li>\s*(<p>)?<strong>Register and distillation tokens</strong>", quantization)


def test_nothing_is_fetched_from_elsewhere(site):
    for path in site.rglob("*.html"):
        outside = [u for u in Page(path.read_text()).fetched if re.match(r"(https?:)?//", u)]
        assert not outside, (path.name, outside)


def test_reference_of_every_function(site):
    text = (site / "api.html").read_text()
    for name in vitforge.__all__:
        assert f'id="vitforge.road.{name}"' in text, name
    assert "normalised floats" in text and "ValueError" in text


@pytest.mark.parametrize("name", vitforge.__all__)
def test_parameters_are_described_one_by_one(name):
    """Of several names in one entry the site shows the first one's type and default for all."""
    function = getattr(vitforge, name)
    section = re.search(r"^Parameters\n-+\n(.*?)(?=\n\n\w+\n-+\n|\Z)", inspect.getdoc(function), re.DOTALL | re.M)
    if section:
        described = re.findall(r"^\S.*$", section[1], re.M)
        assert described and set(described) <= set(inspect.signature(function).parameters), described


def test_a_dead_link_fails(tmp_path):
    """The negative control: the same settings refuse a page with a link to nothing and a page that no menu lists."""
    (tmp_path / "docs").mkdir()
    settings = (ROOT / "mkdocs.yml").read_text()
    plugins, rest, nav = (settings.index(f"\n{key}:") for key in ("plugins", "exclude_docs", "nav"))
    (tmp_path / "mkdocs.yml").write_text(settings[:plugins] + settings[rest:nav] + "\nnav:\n  - README.md\n")
    (tmp_path / "docs" / "README.md").write_text("# Start\n[gone](gone.md)\n")
    (tmp_path / "docs" / "other.md").write_text("# Other\n")
    done = subprocess.run(BUILD, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0 and "gone.md" in done.stderr and "other.md" in done.stderr, done.stderr
