"""The side of the machine that faces the system: AXI ports, DMA chunks, registers, job queue, boot and soft reset."""

from amaranth import Cat, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arch import isa
from ..arch.config import AcceleratorConfig
from ..arch.registers import Error
from ..emit import block
from ..interfaces import BufferRead, BufferWrite, ChunkControl, WeightWrite
from .axi import AXI4, EPOCH_BITS, AXI4Lite, AXI4Read, AXI4Write, WriteMaster, address_constants, join_channels
from .boot import Boot, header_members
from .csr import Csr
from .dma import ImageDma, ResultDma, WeightDma
from .job_status import JobStatus
from .jobs import JobQueue
from .read_engine import ReadEngine


class Host(wiring.Component):
    """AXI masters, the three DMA chunks, registers, job queue, program load and soft reset.

    Must be reset by ``aresetn`` alone; whatever else holds state is reset by ``aresetn`` or ``core_reset``. A reset
    made by ResetInserter does not reach blocks that emit.block has replaced by instances: put them into a clock
    domain whose reset is that signal.

    Parameters
    ----------
    config : the accelerator

    Members
    -------
    s_axi_ctrl : In(AXI4Lite()); m_axi_gmem<n> : Out(AXI4()); interrupt : Out(1)
    weight_ctl, image_ctl, result_ctl : In(ChunkControl), the DMA chunks
    weights, params, ln_params, program : Out(WeightWrite); the program's beat i goes to address i, header included
    image_wr : Out(BufferWrite); result_rd : Out(BufferRead)
    run : Out(1), program loaded and enabled
    core_reset : Out(1), reset of everything outside, 8 cycles, after AXI has drained
    submitted : Out(16), images queued since the last reset, modulo 2^16, as the progress counters count them
    <chunk>_start, <chunk>_count : Out(16), from the program's header
    image_end : In, one bit per chunk of isa.Chunk: its sequencer has finished an image's program (image and result DMA
        are used)
    busy, stall : In, one bit per chunk, counted
    progress : In(1), some progress counter has moved
    active : In(1), some sequencer is inside an image's program

    Latency/throughput: see the parts; the job base of the next image holds from the cycle after ``image_end``.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = c = config
        beat_bits, chunks = c.beat_bytes * 8, len(isa.Chunk)
        super().__init__(
            {"s_axi_ctrl": In(AXI4Lite()), "interrupt": Out(1)}
            | {f"m_axi_gmem{i}": Out(AXI4()) for i in range(c.masters)}
            | {
                "weight_ctl": In(ChunkControl(isa.Chunk.WEIGHT_DMA)),
                "image_ctl": In(ChunkControl(isa.Chunk.IMAGE_DMA)),
                "result_ctl": In(ChunkControl(isa.Chunk.RESULT_DMA)),
                "weights": Out(WeightWrite(c.weight_row_bytes * 8, c.beats_per_weight_row)),
                "params": Out(WeightWrite(beat_bits, 1)),
                "ln_params": Out(WeightWrite(beat_bits, 1)),
                "program": Out(WeightWrite(beat_bits, 1)),
                "image_wr": Out(BufferWrite(c)),
                "result_rd": Out(BufferRead(c)),
                "run": Out(1),
                "core_reset": Out(1),
                "submitted": Out(16),
                "image_end": In(chunks),
                "busy": In(chunks),
                "stall": In(chunks),
                "progress": In(1),
                "active": In(1),
            }
            | header_members()
        )

    def elaborate(self, platform):
        m = Module()
        c = self._config
        m.submodules.read = read = block(ReadEngine(c), "vf_read_engine")
        m.submodules.write = write = block(WriteMaster(), "vf_write_master")
        m.submodules.weight_dma = weight = block(WeightDma(c), "vf_weight_dma")
        m.submodules.image_dma = image = block(ImageDma(c), "vf_image_dma")
        m.submodules.result_dma = result = block(ResultDma(c), "vf_result_dma")
        m.submodules.csr = csr = block(Csr(c), "vf_csr")
        m.submodules.jobs = jobs = block(JobQueue(c), "vf_job_queue")
        m.submodules.status = status = block(JobStatus(c), "vf_job_status")
        m.submodules.boot = boot = block(Boot(c), "vf_boot")

        def outside(name, inner, inner_name=None):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(inner, inner_name or name))

        # ---- AXI
        outside("s_axi_ctrl", csr, "bus")
        for i in range(c.masters):
            port = getattr(self, f"m_axi_gmem{i}")
            join_channels(m, port, getattr(read, f"m_axi{i}"), AXI4Read())
            if i == 0:
                join_channels(m, port, write.axi, AXI4Write())
            else:  # results are written by master 0 alone
                address_constants(m, port, "aw")
        m.d.comb += self.interrupt.eq(csr.interrupt)

        # ---- data
        for name, inner in (("weight_ctl", weight), ("image_ctl", image), ("result_ctl", result)):
            outside(name, inner, "ctl")
        for name in ("weights", "params", "ln_params", "program"):
            outside(name, weight)
        outside("image_wr", image)
        outside("result_rd", result)
        for queue, dma in enumerate((weight, image)):
            wiring.connect(m, dma.request, getattr(read, f"request{queue}"))
            wiring.connect(m, getattr(read, f"beat{queue}"), dma.beat)
        wiring.connect(m, result.burst, write.burst)
        wiring.connect(m, result.beat, write.beat)
        m.d.comb += [
            weight.base.eq(boot.base),
            image.base.eq(boot.base),
            image.job_base.eq(jobs.image_base),
            result.base.eq(jobs.result_base),
            result.written.eq(write.done),
        ]

        # ---- late answers: aresetn with something outstanding begins another epoch, which it does not reset itself
        epoch, before = Signal(EPOCH_BITS, reset_less=True), Signal(reset_less=True)
        m.d.sync += before.eq(ResetSignal())
        with m.If(ResetSignal() & ~before & ~(read.idle & write.idle)):
            m.d.sync += epoch.eq(epoch + 1)
        m.d.comb += [read.epoch.eq(epoch), write.epoch.eq(epoch), csr.stray.eq(read.stray | write.stray)]

        # ---- boot and reset
        wiring.connect(m, boot.load, weight.boot)
        m.d.comb += [
            boot.enable.eq(csr.enable),
            boot.soft_reset.eq(csr.soft_reset),
            boot.program_base.eq(csr.program_base),
            boot.program_beats.eq(csr.program_beats),
            boot.loaded.eq(weight.boot_done),
            boot.damaged.eq(weight.damaged),
            boot.program_valid.eq(weight.program.valid & self.program.ready),
            boot.program_addr.eq(weight.program.addr),
            boot.program_data.eq(weight.program.data),
            boot.read_error.eq(read.error),
            boot.idle.eq(read.idle & write.idle),
            read.attributes.as_value().eq(csr.attributes[:8]),
            write.attributes.as_value().eq(csr.attributes[8:]),
            read.stop.eq(boot.stop),
            write.stop.eq(boot.stop),
            self.run.eq(boot.run),
            self.core_reset.eq(boot.core_reset),
            csr.clear.eq(boot.clear),
            csr.started.eq(boot.started),
            csr.stopping.eq(boot.stopping),
            csr.base.eq(boot.base),
            csr.run.eq(boot.run),
            csr.booting.eq(boot.booting),
            csr.bad_program.eq(boot.bad_program),
            csr.bad_build.eq(boot.bad_build),
            csr.bad_checksum.eq(boot.bad_checksum),
            csr.misaligned.eq(boot.misaligned),
        ]
        m.d.comb += [part.reset.eq(boot.core_reset) for part in (read, write, weight, image, result, jobs)]
        m.d.comb += [getattr(self, name).eq(getattr(boot, name)) for name in header_members()]

        # ---- jobs, errors, counters
        done = self.image_end[isa.Chunk.RESULT_DMA]
        m.d.comb += [
            jobs.push.eq(csr.push),
            jobs.image.eq(csr.push_image),
            jobs.result.eq(csr.push_result),
            jobs.pop_image.eq(self.image_end[isa.Chunk.IMAGE_DMA]),
            jobs.pop_result.eq(done),
            self.submitted.eq(jobs.submitted),
            csr.job_full.eq(jobs.full),
            csr.job_free.eq(jobs.free),
            csr.submitted.eq(jobs.submitted),
            csr.completed.eq(jobs.completed),
            csr.image_done.eq(done),
            csr.damaged.eq(Cat(weight.damaged & ~weight.boot_done, image.damaged)),
            csr.moved.eq(read.moved | write.moved),
            csr.read_error.eq(read.error),
            csr.read_addr.eq(read.error_addr),
            csr.read_resp.eq(read.error_resp),
            csr.write_error.eq(write.error),
            csr.write_addr.eq(write.error_addr),
            csr.write_resp.eq(write.error_resp),
            csr.busy.eq(self.busy),
            csr.stall.eq(self.stall),
            csr.progress.eq(self.progress),
            csr.active.eq(self.active),
            status.reset.eq(boot.core_reset),
            status.clear.eq(boot.started | boot.clear),
            status.push.eq(csr.push),
            status.submitted.eq(jobs.submitted),
            status.weight_errors[Error.READ].eq(read.error_queue[0]),
            status.image_errors[Error.READ].eq(read.error_queue[1]),
            status.weight_errors[Error.CHECKSUM].eq(csr.damaged[0]),
            status.image_errors[Error.CHECKSUM].eq(csr.damaged[1]),
            status.result_errors[Error.WRITE].eq(write.error),
            status.result_errors[Error.WATCHDOG].eq(csr.hangs),
            status.weight_end.eq(self.image_end[isa.Chunk.WEIGHT_DMA]),
            status.image_end.eq(self.image_end[isa.Chunk.IMAGE_DMA]),
            status.result_end.eq(done),
            status.working.eq(csr.working),
            status.pop.eq(csr.done_pop),
            csr.done_count.eq(status.count),
            csr.done.eq(status.head),
        ]
        return m
