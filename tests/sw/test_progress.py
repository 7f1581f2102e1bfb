"""The progress display: one line on a terminal with the time left, plain lines elsewhere, nothing for short work."""

import os
import pty
import re
import subprocess
import sys

from vitforge_sw import progress

SCRIPT = """
import sys, time
from vitforge_sw import progress
progress.REPORT = 0.8
def work(parts, seconds):
    with progress.working("outer work", after=0.1):
        for _ in progress.steps(range(parts), "parts", True):
            time.sleep(seconds / parts)
work(10, 2.0)
with progress.working("short work"):
    pass
try:
    with progress.working("failing work", after=0.1):
        time.sleep(0.7)
        raise RuntimeError
except RuntimeError:
    print("over")
"""


def on_terminal(script: str) -> tuple[str, str]:
    """(what a terminal of 80 columns shows as stderr, stdout) of a script."""
    master, slave = pty.openpty()
    environment = dict(os.environ, COLUMNS="80")
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=slave, env=environment)
    os.close(slave)
    shown = b""
    while True:
        try:
            data = os.read(master, 4096)
        except OSError:
            break
        if not data:
            break
        shown += data
    out = process.stdout.read().decode()
    assert process.wait() == 0
    return shown.decode(), out


def test_terminal():
    shown, out = on_terminal(SCRIPT)
    assert "\n" not in shown, "one line, drawn again and again"
    lines = [text for text in shown.split("\r\033[K") if text]
    shape = re.compile(r"outer work: parts: +(\d+)%\|.*\| (\d+)/10 \[.*<(\d\d:\d\d|\?)")
    bars = [m for text in lines if (m := shape.match(text))]
    assert len(bars) >= 3 and max(map(len, lines)) < 80
    assert [int(m[2]) for m in bars] == sorted(int(m[2]) for m in bars) and int(bars[-1][2]) >= 5
    assert bars[-1][3] in ("00:00", "00:01"), "the time left, from the rate so far"
    assert shown.endswith("\r\033[K"), "nothing stays"
    assert re.fullmatch(r"outer work: 2\.\d s\nfailing work: stopped after 0\.\d s\nover\n", out), out


def test_plain_lines():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "outer work ..." and lines[-1] == "over" and not any("short" in x for x in lines)
    found = [re.fullmatch(r"  outer work: parts: +(\d+) %, about (\d) s left", x) for x in lines[1:3]]
    assert found[0] and 20 <= int(found[0][1]) <= 60 and found[0][2] in "12", lines
    assert re.fullmatch(r"outer work: 2\.\d s", lines[-4]), lines


def test_time_left():
    assert progress.left(0, 10, 5) == "  0 %"
    assert progress.left(1, 10, 20) == " 10 %, about 3 min 00 s left"
    assert progress.left(985, 1000, 20) == " 98 %, about 0 s left"
    assert progress.left(12, 10, 20) == progress.left(999, 1000, 20) == " 99 %, the last of it"
    assert [progress.duration(s) for s in (0.4, 59.7, 61, 5000)] == ["0 s", "1 min 00 s", "1 min 01 s", "1 h 23 min"]


def test_hidden_steps_are_the_items():
    assert list(progress.steps(iter("abc"), "x", False)) == list(progress.steps(iter("abc"), "x", True)) == list("abc")
    assert not progress.DISPLAY.tasks


def test_no_second_display():
    """Every bar goes through vitforge_sw.progress: two displays would draw over each other."""
    from pathlib import Path

    root = Path(__file__).resolve().parents[2]
    users = [p.name for f in ("hw", "sw", "sim") for p in (root / f).rglob("*.py") if "tqdm" in p.read_text()]
    assert users == ["progress.py"]
