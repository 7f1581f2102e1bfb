"""mkdocs hook: pages of docs/ that the navigation does not place go into its last section, so that none is lost."""

import json
from pathlib import Path


def on_config(config):
    """Called by mkdocs with the settings read; ``nav`` is completed."""
    placed = json.dumps(config.nav)
    pages = sorted(p.name for p in Path(config.docs_dir).glob("*.md"))
    if missing := [name for name in pages if f'"{name}"' not in placed]:
        config.nav.append({"More": missing})
    return config
