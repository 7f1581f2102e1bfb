"""The top level as a Vivado user sees it: flat AXI port names, aclk, aresetn, interrupt."""

from amaranth import ClockDomain, DomainRenamer, Elaboratable, Module, Signal
from amaranth.lib import wiring

from .arch.config import AcceleratorConfig
from .core import HOST_CHUNKS, Core
from .emit import block
from .host.host import Host

TOP = "vitforge_top"
_HOST_TO_CORE = ("run", "submitted")
_CORE_TO_HOST = ("image_end", "busy", "stall", "progress", "active")
_SHARED_PORTS = (*HOST_CHUNKS.values(), "weights", "params", "ln_params", "program", "image_wr", "result_rd")


class Top(Elaboratable):
    """Host and Core in one clock domain with two resets.

    Parameters
    ----------
    config : AcceleratorConfig

    Attributes
    ----------
    ports : flat signals ``aclk``, ``aresetn``, ``interrupt``, ``s_axi_ctrl_*``, ``m_axi_gmem<n>_*`` with Vivado's
        X_INTERFACE attributes. ``aresetn`` is synchronous and active low; ``interrupt`` is level high.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.host = block(Host(config), "vf_host")
        self.core = block(Core(config), "vf_core")
        names = ["s_axi_ctrl", *(f"m_axi_gmem{i}" for i in range(config.masters))]
        clock = {
            "X_INTERFACE_INFO": "xilinx.com:signal:clock:1.0 aclk CLK",
            "X_INTERFACE_PARAMETER": f"ASSOCIATED_BUSIF {':'.join(names)}, ASSOCIATED_RESET aresetn",
        }
        reset = {
            "X_INTERFACE_INFO": "xilinx.com:signal:reset:1.0 aresetn RST",
            "X_INTERFACE_PARAMETER": "POLARITY ACTIVE_LOW",
        }
        level = {
            "X_INTERFACE_INFO": "xilinx.com:signal:interrupt:1.0 interrupt INTERRUPT",
            "X_INTERFACE_PARAMETER": "SENSITIVITY LEVEL_HIGH",
        }
        self.aclk = Signal(attrs=clock)
        self.aresetn = Signal(attrs=reset)
        self.interrupt = Signal(attrs=level)
        self._bus: list[tuple[Signal, object, wiring.Flow]] = []  # flat signal, host's member, host's direction
        for name in names:
            port = getattr(self.host, name)
            kind = "aximm"
            for path, member, value in port.signature.flatten(port):
                signal = path[-1]
                attrs = {"X_INTERFACE_INFO": f"xilinx.com:interface:{kind}:1.0 {name} {signal.upper()}"}
                flat = Signal(len(value), name=f"{name}_{signal}", attrs=attrs)
                self._bus.append((flat, value, member.flow))
        self.ports = [self.aclk, self.aresetn, self.interrupt, *(flat for flat, _, _ in self._bus)]

    def elaborate(self, platform):
        m = Module()
        domains = {"sync": ClockDomain("sync"), "core": ClockDomain("core")}
        m.domains += domains.values()
        host, core = self.host, self.core
        core_reset = Signal(init=1)
        m.d.sync += core_reset.eq(host.core_reset)
        for domain, reset in (("sync", ~self.aresetn), ("core", ~self.aresetn | core_reset)):
            m.d.comb += [domains[domain].clk.eq(self.aclk), domains[domain].rst.eq(reset)]
        m.submodules.host = host
        m.submodules.core = DomainRenamer("core")(core)
        for flat, value, flow in self._bus:
            m.d.comb += flat.eq(value) if flow == wiring.Out else value.eq(flat)
        m.d.comb += self.interrupt.eq(host.interrupt)
        for name in _SHARED_PORTS:
            wiring.connect(m, getattr(host, name), getattr(core, name))
        header = [n for n in core.signature.members if n.endswith(("_start", "_count"))]
        m.d.comb += [getattr(core, n).eq(getattr(host, n)) for n in (*_HOST_TO_CORE, *header)]
        m.d.comb += [getattr(host, n).eq(getattr(core, n)) for n in _CORE_TO_HOST]
        return m
