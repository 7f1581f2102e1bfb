"""``python boards/ulx3s COMMAND``: see cli.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ulx3s.cli import main  # noqa: E402

raise SystemExit(main())
