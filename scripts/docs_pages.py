"""mkdocs hooks: what the pages, written as GitHub reads them, need as a site."""

import json
import re
from pathlib import Path

LIST_ITEM = re.compile(r"(?:[-*+]|\d+\.) ")


def on_config(config):
    """Called with the settings read: what ``nav`` does not place of docs/ goes into its last section."""
    placed = json.dumps(config.nav)
    pages = sorted(p.name for p in Path(config.docs_dir).glob("*.md"))
    if missing := [name for name in pages if f'"{name}"' not in placed]:
        config.nav.append({"More": missing})
    return config


def on_page_markdown(markdown, **_):
    """Called with each page: a list may follow its paragraph at once, which Python-Markdown reads as one paragraph."""
    lines, fenced, text = [], False, False
    for line in markdown.splitlines():
        fenced ^= line.startswith("```")
        starts = bool(LIST_ITEM.match(line))
        if starts and text and not fenced:
            lines.append("")
        text = bool(line.strip()) and not starts and (text or not line.startswith(" "))
        lines.append(line)
    return "\n".join(lines) + "\n"
