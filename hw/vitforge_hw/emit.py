"""Emit each block once: a block used many times becomes one Verilog module and many instances.

``block(component, name)`` returns the component itself, for Amaranth's own simulator, or, inside
:func:`emitting`, a black box with the same ports whose module is converted once under ``name``.
"""

import contextlib
import contextvars
import re

from amaranth import ClockSignal, Instance, ResetSignal
from amaranth.back import verilog
from amaranth.lib import wiring

from .verilog_text import full_width, tidy

_modules: contextvars.ContextVar[dict[str, str] | None] = contextvars.ContextVar("modules", default=None)


@contextlib.contextmanager
def emitting():
    """Collect emitted modules: yields a dict {module name: Verilog text}, children before parents."""
    modules: dict[str, str] = {}
    token = _modules.set(modules)
    try:
        with full_width():
            yield modules
    finally:
        _modules.reset(token)


def convert(component, name: str, ports=None) -> str:
    """Verilog text of one component; deterministic, without source paths, memories cleared by a loop."""
    text = verilog.convert(component, name=name, ports=ports, emit_src=False, strip_internal_attrs=True)
    return tidy(_CLEARED.sub(_clear_loop, text))


_CLEARED = re.compile(r"^  initial begin\n((?:    (\S+ ?)\[\d+\] = \d+'h0+;\n)+)  end\n", re.M)


def _clear_loop(match: re.Match) -> str:
    """One loop instead of a line per word of a zero-initialised memory."""
    mem, depth = match[2], match[1].count("\n")
    index = re.sub(r"\W", "_", mem).strip("_") + "_index"
    loop = f"for ({index} = 0; {index} < {depth}; {index} = {index} + 1)"
    return f"  integer {index};\n  initial {loop} {mem}[{index}] = 0;\n"


class _BlackBox(wiring.Component):
    def __init__(self, component: wiring.Component, name: str, text: str):
        self._name = name
        header = re.search(rf"^module {re.escape(name)}\((.*?)\);", text, re.S | re.M).group(1)
        self._ports = {p.strip() for p in header.split(",")}
        super().__init__(component.signature)

    def elaborate(self, platform):
        ports = {}
        for path, member, value in self.signature.flatten(self):
            port = "__".join(str(p) for p in path)
            if port in self._ports:
                # the black box sees the component's own directions
                ports[("i_" if member.flow == wiring.In else "o_") + port] = value
        for port, signal in (("clk", ClockSignal()), ("rst", ResetSignal())):
            if port in self._ports:
                ports["i_" + port] = signal
        return Instance(self._name, **ports)  # itself, not a module around it: one instance, no wrapper


def block(component: wiring.Component, name: str) -> wiring.Component:
    """``component``, or inside :func:`emitting` a black box of module ``name`` (emitted at the first use).

    ``name`` must be unique to the component's class and parameters.
    """
    modules = _modules.get()
    if modules is None:
        return component
    component._MustUse__silence = True  # only its ports are used when the module has been emitted before
    if name not in modules:
        modules[name] = convert(component, name)
    return _BlackBox(component, name, modules[name])
