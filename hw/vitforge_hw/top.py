"""The top level as a Vivado user sees it: flat AXI port names, aclk, aresetn, interrupt."""

from amaranth import ClockDomain, DomainRenamer, Elaboratable, Module, Signal
from amaranth.lib import wiring

from .arch.config import AcceleratorConfig
from .core import HOST_CHUNKS, Core
from .emit import block
from .host.axi import AXI4Read, burst_limit, image_fifo_beats
from .host.host import Host

TOP = "vitforge_top"
OUTSTANDING = 32  #: largest number that an aximm interface's parameters can say
_HOST_TO_CORE = ("run", "submitted")
_CORE_TO_HOST = ("image_end", "busy", "stall", "progress", "active")
_SHARED_PORTS = (*HOST_CHUNKS.values(), "weights", "params", "ln_params", "program", "image_wr", "result_rd")


def bus_parameters(config: AcceleratorConfig, name: str) -> dict[str, str | int]:
    """What Vivado and IP-XACT are told of an AXI interface, by the names of aximm's bus parameters.

    Undeclared, Vivado takes bursts of 256 beats, narrow ones too: logic that every interconnect then builds.
    """
    lite = name == "s_axi_ctrl"
    reads_only = not lite and name != "m_axi_gmem0"
    parameters: dict[str, str | int] = {
        "PROTOCOL": "AXI4LITE" if lite else "AXI4",
        "DATA_WIDTH": 32 if lite else 128,
        "ADDR_WIDTH": 12 if lite else 64,
        "ID_WIDTH": 0 if lite else 4,
        "AWUSER_WIDTH": 0 if lite or reads_only else 1,
        "ARUSER_WIDTH": 0 if lite else 1,
        "WUSER_WIDTH": 0,
        "RUSER_WIDTH": 0,
        "BUSER_WIDTH": 0,
        "READ_WRITE_MODE": "READ_ONLY" if reads_only else "READ_WRITE",
        "HAS_BURST": int(not lite),
        "HAS_LOCK": int(not lite),
        "HAS_PROT": 1,
        "HAS_CACHE": int(not lite),
        "HAS_QOS": int(not lite),
        "HAS_REGION": 0,
        "HAS_WSTRB": int(not reads_only),
        "HAS_BRESP": int(not reads_only),
        "HAS_RRESP": 1,
        "SUPPORTS_NARROW_BURST": 0,
        "MAX_BURST_LENGTH": 1 if lite else burst_limit(config),
    }
    if not lite:
        beats = config.read_fifo_beats + image_fifo_beats(config)  # asked for only where there is room
        parameters["NUM_READ_OUTSTANDING"] = min(OUTSTANDING, beats // burst_limit(config))
        parameters["NUM_WRITE_OUTSTANDING"] = 0 if reads_only else 1
    return parameters


class Top(Elaboratable):
    """Host and Core in one clock domain with two resets.

    Parameters
    ----------
    config : AcceleratorConfig

    Attributes
    ----------
    ports : flat signals ``aclk``, ``aresetn``, ``interrupt``, ``s_axi_ctrl_*``, ``m_axi_gmem<n>_*`` with Vivado's
        X_INTERFACE attributes; masters but the first have read channels alone. ``aresetn`` is synchronous and active
        low; ``interrupt`` is level high.
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
            parameters = ", ".join(f"{key} {value}" for key, value in bus_parameters(config, name).items())
            members = list(port.signature.flatten(port))
            if name.startswith("m_axi_gmem") and name != names[1]:  # results are written by master 0 alone
                members = [m for m in members if m[0][-1] in AXI4Read().members]
            for path, member, value in members:
                signal = path[-1]
                attrs = {"X_INTERFACE_INFO": f"xilinx.com:interface:aximm:1.0 {name} {signal.upper()}"}
                if path == members[0][0]:  # once an interface
                    attrs["X_INTERFACE_PARAMETER"] = f"XIL_INTERFACENAME {name}, {parameters}"
                flat = Signal(len(value), name=f"{name}_{signal}", attrs=attrs)
                self._bus.append((flat, value, member.flow))
        self.ports = [self.aclk, self.aresetn, self.interrupt, *(flat for flat, _, _ in self._bus)]

    def elaborate(self, platform):
        m = Module()
        domains = {"sync": ClockDomain("sync"), "core": ClockDomain("core")}
        m.domains += domains.values()
        host, core = self.host, self.core
        core_reset, hold = Signal(init=1), Signal(2, init=3)
        # set by aresetn, so long that copies of it (control.reset) are set together: a part that is not reset yet must
        # not speak to one that is no longer
        m.d.sync += [hold.eq(hold[1:]), core_reset.eq(host.core_reset | hold.any())]
        for domain, reset in (("sync", ~self.aresetn), ("core", core_reset)):
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
