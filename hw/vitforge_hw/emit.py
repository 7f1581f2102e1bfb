"""Emit each block once: a block used many times becomes one Verilog module and many instances.

``block(component, name)`` returns the component itself, for Amaranth's own simulator, or, inside
:func:`emitting`, a black box with the same ports whose module is converted once under ``name``. Modules are collected
as RTLIL; one Yosys run turns all of them into Verilog, because starting Yosys costs more than most modules do.
"""

import contextlib
import contextvars
import os
import re
from collections.abc import Mapping

from amaranth import ClockSignal, Instance, ResetSignal
from amaranth.back import rtlil, verilog
from amaranth.lib import wiring

from .verilog_text import back_end, flat_module_names, split_modules, tidy

_modules: contextvars.ContextVar["Modules | None"] = contextvars.ContextVar("modules", default=None)
_primitives: contextvars.ContextVar[str] = contextvars.ContextVar("primitives", default="")
WRITER = "AMARANTH_USE_YOSYS"  #: Amaranth's own variable
PRIMITIVES = ("", "dsp48e2")  #: behavioural Verilog alone, or with the DSP blocks of a family written out


def primitives() -> str:
    """Which vendor primitives the component that is being elaborated writes out (PRIMITIVES)."""
    return _primitives.get()


class Modules(Mapping):
    """Emitted blocks in order, children before parents: name -> Verilog text (with the block's own submodules).

    source_lines : keep in ``rtlil`` where each signal is declared (absolute paths: never for files that are kept)
    """

    def __init__(self, source_lines: bool = False):
        self._source_lines = source_lines
        self._rtlil: dict[str, str] = {}
        self._verilog: dict[str, str] = {}
        self.ports: dict[str, set[str]] = {}

    def add(self, component, name: str, ports=None):
        """Elaborate a component (its blocks are added first) and keep its RTLIL."""
        with back_end():
            text = rtlil.convert(component, name=name, ports=ports, emit_src=self._source_lines)
            text = flat_module_names(text, name)
        body = re.search(rf"^module \\{re.escape(name)}$(.*?)^end$", text, re.S | re.M).group(1)
        self.ports[name] = set(re.findall(r"^  wire .*\b(?:input|output|inout) \d+ .*\\(\S+)$", body, re.M))
        assert self.ports[name], f"{name}: no ports found in its RTLIL"
        self._rtlil[name] = text

    @property
    def rtlil(self) -> Mapping[str, str]:
        """Block name -> RTLIL text."""
        return self._rtlil

    def __getitem__(self, name: str) -> str:
        new = {n: t for n, t in self._rtlil.items() if n not in self._verilog}
        if new:
            self._verilog |= to_verilog(new)
        return self._verilog[name]

    def __iter__(self):
        return iter(self._rtlil)

    def __len__(self):
        return len(self._rtlil)


@contextlib.contextmanager
def writer(yosys: str):
    """Inside, this Yosys writes Verilog: "builtin", installed with Amaranth, or "system", named by YOSYS or found."""
    before = os.environ.get(WRITER)
    os.environ[WRITER] = yosys
    try:
        yield
    finally:
        os.environ.pop(WRITER)
        if before is not None:
            os.environ[WRITER] = before


def to_verilog(texts: dict[str, str]) -> dict[str, str]:
    """Block name -> RTLIL to block name -> Verilog, each with the submodules that its RTLIL has.

    Written by the Yosys that is installed with Amaranth, unless AMARANTH_USE_YOSYS says otherwise: another one declares
    the same names in another order, and files are to be the same to the byte on every machine.
    """
    owner: dict[str, str] = {}
    for name, text in texts.items():
        for module in re.findall(r"^module \\(\S+)$", text, re.M):
            if module in owner:
                raise ValueError(f"module {module} must have one meaning, but {owner[module]} and {name} define it")
            owner[module] = name
    out: dict[str, list[str]] = {name: [] for name in texts}
    with writer(os.environ.get(WRITER, "builtin")):
        text = verilog._convert_rtlil_text("\n".join(texts.values()), strip_internal_attrs=True)
    for module, body in split_modules(text):
        out[owner[module]].append(tidy(body))
    return {name: "\n".join(parts) for name, parts in out.items()}


@contextlib.contextmanager
def emitting(primitives: str = "", source_lines: bool = False):
    """Collect emitted blocks: yields :class:`Modules`. ``primitives``: one of PRIMITIVES."""
    if primitives not in PRIMITIVES:
        raise ValueError(f"primitives must be one of {', '.join(map(repr, PRIMITIVES))}, not {primitives!r}")
    modules = Modules(source_lines)
    tokens = _modules.set(modules), _primitives.set(primitives)
    try:
        yield modules
    finally:
        _modules.reset(tokens[0])
        _primitives.reset(tokens[1])


def convert(component, name: str, ports=None) -> str:
    """Verilog text of one component; deterministic, without source paths, memories cleared by a loop."""
    own = Modules()
    own.add(component, name, ports)
    return own[name]


class _BlackBox(wiring.Component):
    def __init__(self, component: wiring.Component, name: str, ports: set[str], reset=None):
        self._name, self._ports, self._reset = name, ports, reset
        super().__init__(component.signature)

    def elaborate(self, platform):
        ports = {}
        for path, member, value in self.signature.flatten(self):
            port = "__".join(str(p) for p in path)
            if port in self._ports:
                # the black box sees the component's own directions
                ports[("i_" if member.flow == wiring.In else "o_") + port] = value
        reset = ResetSignal() if self._reset is None else self._reset
        for port, signal in (("clk", ClockSignal()), ("rst", reset)):
            if port in self._ports:
                ports["i_" + port] = signal
        return Instance(self._name, **ports)  # itself, not a module around it: one instance, no wrapper


def block(component: wiring.Component, name: str, reset=None) -> wiring.Component:
    """``component``, or inside :func:`emitting` a black box of module ``name`` (emitted at the first use).

    ``name`` must be unique to the component's class and parameters. ``reset``: the module's in place of the domain's
    (a copy of it, some cycles later: control.reset); Amaranth's own simulator has the domain's.
    """
    modules = _modules.get()
    if modules is None:
        return component
    component._MustUse__silence = True  # only its ports are used when the module has been emitted before
    if name not in modules.ports:
        modules.add(component, name)
    return _BlackBox(component, name, modules.ports[name], reset)
