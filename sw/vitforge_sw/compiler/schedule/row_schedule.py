"""Who does what and when: rows of all layers on MAT, R-MAC and LayerNorm by an event model, then as few runs of rows.

An engine that is free takes the first row in program order that is ready, R-MAC a depthwise layer or K^T V first once
its input is nearly done: so both share a pointwise layer row by row, R-MAC leaves it early for the depthwise layer, and
MAT follows with the next pointwise layer's rows. Rows of long duration are halved by output tiles, one half each.

A deferred classifier's pieces are MAT's, each when its weights can have arrived. In a batch, an engine that would wait
takes rows of the next image's first layers, as far as the activation buffer has room for them.

Consecutive rows of an engine at a constant distance of 1 or 2 become one run, an instruction. Runs are put in an order
in which every row is written before it is read, if they are executed one after the other.
"""

import dataclasses

from vitforge_hw.arch.config import AcceleratorConfig
from vitforge_hw.arch.isa import Chunk

from ...ops import LinearAttention
from ..layers.batch import image_of
from ..layers.efficientvit import Layer, MapNetwork
from ..layers.run import Run
from ..options import CompileOptions
from .row_units import Unit, coalesce, units_of


class Scheduler:
    """List schedule of one image: ``run`` gives the runs in sequential order."""

    def __init__(
        self,
        net: MapNetwork,
        config: AcceleratorConfig,
        options: CompileOptions,
        piece_rows: int,
        window: int | None = None,
        ahead: int | None = None,
    ):
        self.net, self.options, self.tuning = net, options, options.tuning
        first = self.tuning.windows[0]
        self.window, ahead = first[0] if window is None else window, first[1] if ahead is None else ahead
        alone = (Chunk.RMAC, Chunk.LAYERNORM)
        self.chunks = alone if options.engines == "rmac" else (Chunk.MAT, *alone)
        self.units = [units_of(net, layer, piece_rows, options.engines == "both", self.tuning) for layer in net.layers]
        self.release = self._release(config)
        self.fillers = self._fillers(config, ahead) if options.overlap and ahead else {}
        self.taken = [0] * len(net.layers)
        self.left = [len(u) for u in self.units]  #: units not finished
        self.row_left = [self._row_units(u) for u in self.units]
        self.row_time = [[0.0] * layer.rows for layer in net.layers]
        self.done = [0] * len(net.layers)  #: rows finished without a gap
        self.time: list[list[float]] = [[] for _ in net.layers]  #: when the first r + 1 rows were finished
        self.chunks_of = [self._chunks_of(layer) for layer in net.layers]
        self.sequence: dict[Chunk, list[tuple[Unit, float, float]]] = {c: [] for c in self.chunks}

    @staticmethod
    def _row_units(units: list[Unit]) -> dict[int, int]:
        count: dict[int, int] = {}
        for u in units:
            count[u.row] = count.get(u.row, 0) + 1
        return count

    def _chunks_of(self, layer: Layer) -> tuple[Chunk, ...]:
        if len(layer.node.CHUNKS) == 1 and Chunk.MAT not in layer.node.CHUNKS:
            return layer.node.CHUNKS
        if Chunk.MAT not in self.chunks:
            return (Chunk.RMAC,)
        alone = (
            self.options.engines == "mat" or isinstance(layer.node, LinearAttention) or layer.number in self.net.beside
        )
        return (Chunk.MAT,) if alone else (Chunk.MAT, Chunk.RMAC)

    def _release(self, config: AcceleratorConfig) -> dict[int, list[float]]:
        """When the weights of each unit of the deferred classifier can have arrived, if they take 1 / pace of the
        memory's bandwidth."""
        out: dict[int, list[float]] = {}
        rows = 0
        for n in self.net.beside:
            layer, out[n] = self.net.layers[n], []
            for u in self.units[n]:
                rows += u.tiles * layer.steps
                out[n].append(self.tuning.pace * rows * config.beats_per_weight_row)
        return out

    def _fillers(self, config: AcceleratorConfig, count: int) -> dict[int, range]:
        """Layer -> layers of the next image that may fill waiting time while it is the first unfinished one: from there
        to the image's end, the tensors of both images must fit the activation buffer easily."""
        net, out = self.net, {}
        main = [n for n in range(len(net.layers)) if n not in net.beside]
        begin = [n for n in main if n == main[0] or image_of(net.layers[n].name) > image_of(net.layers[n - 1].name)]
        for a, b in zip(begin, begin[1:]):
            ahead = range(b, b + count)
            names = {r.name for n in ahead for r in (*net.layers[n].node.inputs, net.layers[n].node.out)}
            room = config.act_rows - sum(net.shapes[name].size for name in names)
            last = {r.name: n for n in range(a, b) for r in net.layers[n].node.inputs}
            live = [0] * (b - a)
            for n in range(a, b):
                name = net.layers[n].node.out.name
                for m in range(n, last.get(name, n) + 1) if name in net.shapes else ():
                    live[m - a] += net.shapes[name].size
            n = b
            while n > a and live[n - 1 - a] <= room * self.tuning.next_room:
                n -= 1
                out[n] = ahead
        return out

    # ------------------------------------------------------------ event model

    def ready(self, u: Unit) -> float | None:
        """When a unit may start; None: not known yet."""
        time = 0.0
        if not self.fused and u.layer:
            before = self.net.layers[u.layer - 1]
            if self.done[u.layer - 1] < before.rows:
                return None
            time = self.time[u.layer - 1][-1]
        for tensor, rows in self.net.layers[u.layer].needed(u.row):
            for writer in self.net.writers.get(tensor, ()):
                n = writer.rows if rows < 0 else min(rows, writer.rows)
                if self.done[writer.number] < n:
                    return None
                time = max(time, self.time[writer.number][n - 1])
        return time

    fused = property(lambda s: s.options.overlap)

    def pick(self, chunk: Chunk, now: float, last: int) -> tuple[Unit | None, float | None]:
        """A unit that can start now, or when one may (None: unknown)."""
        window = [i for i in range(self.first, min(len(self.units), self.first + self.window))
                  if chunk in self.chunks_of[i] and self.taken[i] < len(self.units[i])]  # fmt: skip
        u, wake = self.alone(window, now, last) if chunk == Chunk.RMAC and len(self.chunks) > 2 else (None, None)
        if u is None and wake is None:
            u, wake = self.in_turn(chunk, window, now)
        if u is None:
            u = self.filler(chunk, now, wake)
        return u, now if u else wake

    def alone(self, window: list[int], now: float, last: int) -> tuple[Unit | None, float | None]:
        """R-MAC's next unit of a layer that MAT cannot take, if its input is nearly done."""
        for i in window if self.fused else ():
            if i < self.first + self.tuning.ahead and Chunk.MAT not in self.chunks_of[i]:
                sources = [w for t, _, _ in self.net.layers[i].needs for w in self.net.writers.get(t, ())]
                untaken = [u for w in sources for u in self.units[w.number][self.taken[w.number] :]]
                left = sum(u.cycles for u in self.units[i][self.taken[i] :])
                rest = sum(u.cycles for u in untaken) + max(0, self.free[Chunk.MAT] - now)
                if len(untaken) <= self.tuning.leave or rest <= self.tuning.early * left or i == last:
                    u = self.units[i][self.taken[i]]
                    ready = self.ready(u)
                    if ready is not None and ready <= now + self.tuning.hold:
                        return (u, now) if ready <= now else (None, ready)
        return None, None

    def in_turn(self, chunk: Chunk, window: list[int], now: float) -> tuple[Unit | None, float | None]:
        """The first unit in program order that is ready, a deferred classifier's before the others."""
        u, wake = self.beside(chunk)
        if wake is not None and wake <= now:
            return u, now
        for i in window:
            u = self.units[i][self.taken[i]]
            ready = self.ready(u)
            if ready is None:
                continue
            if ready <= now:
                return u, now
            wake = ready if wake is None else min(wake, ready)
        return None, wake

    def filler(self, chunk: Chunk, now: float, wake: float | None) -> Unit | None:
        """A ready unit of the next image's first layers for the time until ``wake``; of a depthwise layer only when its
        input is complete: single rows cost more than they fill."""
        for i in self.fillers.get(self.first, ()):
            worth = self.net.layers[i].shared or self.left[i - 1] == 0
            if worth and chunk in self.chunks_of[i] and self.taken[i] < len(self.units[i]):
                u = self.units[i][self.taken[i]]
                ready = self.ready(u)
                if ready is not None and ready <= now and (wake is None or now + self.tuning.fill * u.cycles <= wake):
                    return u
        return None

    def beside(self, chunk: Chunk) -> tuple[Unit | None, float | None]:
        """The deferred classifier's next unit and when it may start."""
        for i in self.net.beside:
            if self.taken[i] < len(self.units[i]):
                u = self.units[i][self.taken[i]]
                ready = self.ready(u) if chunk in self.chunks_of[i] else None
                return u, None if ready is None else max(ready, self.release[i][self.taken[i]])
        return None, None

    def finish(self, u: Unit, time: float) -> None:
        i = u.layer
        self.left[i] -= 1
        self.row_left[i][u.row] -= 1
        self.row_time[i][u.row] = max(self.row_time[i][u.row], time)
        while self.done[i] < self.net.layers[i].rows and self.row_left[i][self.done[i]] == 0:
            time = self.row_time[i][self.done[i]]
            self.time[i].append(max(time, self.time[i][-1]) if self.time[i] else time)
            self.done[i] += 1

    def run(self) -> list[Run]:
        self.free = free = {c: 0.0 for c in self.chunks}
        last = {c: -1 for c in self.chunks}
        self.first = len(self.net.beside)
        idle: dict[Chunk, float | None] = {}
        while True:
            while self.first < len(self.units) and self.taken[self.first] == len(self.units[self.first]):
                self.first += 1
            if self.first == len(self.units) and self.beside(self.chunks[0])[0] is None:
                break
            chunk = min((c for c in self.chunks if c not in idle), key=lambda c: free[c])
            u, wake = self.pick(chunk, free[chunk], last[chunk])
            if u is None:
                # nothing known: look again when another engine has taken something
                if wake is None:
                    idle[chunk] = None
                    if len(idle) == len(self.chunks):
                        stuck = next(n for n, left in enumerate(self.left) if left)
                        raise ValueError(f"schedule: no row of layer {self.net.layers[stuck].name} can start")
                else:
                    others = [free[c] for c in self.chunks if c != chunk and c not in idle and free[c] > free[chunk]]
                    free[chunk] = max(free[chunk] + 1, min([wake, *others]))
                continue
            start = free[chunk] + (self.tuning.switch + self.net.layers[u.layer].fill if last[chunk] != u.layer else 0)
            end = start + u.cycles
            self.taken[u.layer] += 1
            self.sequence[chunk].append((u, start, end))
            self.finish(u, end + self.tuning.latency)
            for c in idle:
                free[c] = max(free[c], free[chunk])
            idle.clear()
            free[chunk], last[chunk] = end, u.layer
        self.end = max(free.values())
        return self.order()

    # ------------------------------------------------------------ sequential order

    def order(self) -> list[Run]:
        """Runs one after the other, each when all that its rows read is written, the earliest first; where no whole run
        can be next, the longest beginning of one."""
        units: dict[Chunk, list] = {c: [e[0] for e in reversed(s)] for c, s in self.sequence.items()}
        runs = {c: coalesce(c, s)[::-1] for c, s in self.sequence.items()}
        left = [self._row_units(u) for u in self.units]
        done = [0] * len(self.units)  #: rows written without a gap

        def writable(u: Unit) -> bool:
            if not self.fused and u.layer and done[u.layer - 1] < self.net.layers[u.layer - 1].rows:
                return False
            needed = self.net.layers[u.layer].needed(u.row)
            writers = ((w, rows) for tensor, rows in needed for w in self.net.writers.get(tensor, ()))
            return all(done[w.number] >= (w.rows if rows < 0 else min(rows, w.rows)) for w, rows in writers)

        out: list[Run] = []
        while any(runs.values()):
            heads = []
            for c in self.chunks:
                if runs[c]:
                    r = runs[c][-1]
                    count = next((n for n in range(r.rows) if not writable(units[c][-1 - n])), r.rows)
                    heads.append((count < r.rows, r.start, -count, c))
            whole = [h for h in heads if not h[0]]
            _, _, count, c = min(whole or [h for h in heads if h[2]])
            r = runs[c].pop()
            if -count < r.rows:
                middle = r.start + (r.end - r.start) * -count / r.rows
                runs[c].append(dataclasses.replace(
                    r, first=r.first - count * r.pitch, rows=r.rows + count, start=middle
                ))  # fmt: skip
                r = dataclasses.replace(r, rows=-count, end=middle)
            for _ in range(r.rows):
                u = units[c].pop()
                left[u.layer][u.row] -= 1
                while done[u.layer] < len(left[u.layer]) and left[u.layer][done[u.layer]] == 0:
                    done[u.layer] += 1
            out.append(r)
        return out
