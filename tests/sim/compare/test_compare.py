"""Layouts of golden tensors in the memories, and the comparison of writes: every kind of difference is found."""

import numpy as np
import pytest

from vitforge_sim.compare.compare import WriteList, compare_port, port_reports
from vitforge_sim.compare.layouts import GroupLayout, ZLayout
from vitforge_sim.run.monitor import record_dtype

CORES, WORD = 3, 4
RNG = np.random.default_rng(5)


def tensor(images, tokens, channels, low=-128, high=128):
    return RNG.integers(low, high, (images, tokens, channels))


LAYOUTS = {
    "tokens": GroupLayout(tensor(2, 7, 10), (-128, 127), CORES, WORD),
    "map": GroupLayout(tensor(2, 4 * 5, 6), (-128, 127), CORES, WORD, size=(4, 5)),
    "wide map": GroupLayout(tensor(2, 2 * 4, 9, -2048, 2048), (-2048, 2047), CORES, WORD, True, (2, 4)),
    "ksum": GroupLayout(tensor(2, 1, 8), (-128, 127), 1, WORD),
    "z": ZLayout(tensor(2, 8, 3 * 8), (-127, 127), 3, WORD, 2),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_byte_belongs_to_its_element(name):
    """A changed element changes the bytes that ``element`` maps to it, and no others; padding belongs to none."""
    layout = LAYOUTS[name]
    before = layout.rows(0)
    seen = np.zeros(layout.values.shape[1:], int)
    owner = {tuple(at): layout.element(*map(int, at)) for at in np.argwhere(layout.valid)}
    for token, channel in np.ndindex(seen.shape):
        mine = {at for at, e in owner.items() if e == (token, channel)}
        kept = layout.values[0, token, channel]
        layout.values[0, token, channel] = ~kept
        changed = {tuple(at) for at in np.argwhere(layout.rows(0) != before)}
        layout.values[0, token, channel] = kept
        assert changed == mine and mine
        seen[token, channel] += len(mine)
    assert set(np.unique(seen)) == {1 + ("wide" in name)}
    assert np.array_equal(layout.elements(np.ones(layout.valid.shape[:2], bool)), seen > 0)


def test_z_is_the_specification():
    """docs/hybrid.md: row (value block, key block, h), byte lane * width + i."""
    layout = LAYOUTS["z"]
    dim, width = 8, 2
    rows, z = layout.rows(1), layout.values[1]
    for head, (vb, kb, h), lane, i in ((1, (1, 0, 1), 3, 1), (2, (0, 1, 0), 0, 0), (0, (1, 1, 1), 2, 1)):
        row = (vb * 2 + kb) * 2 + h
        want = z[kb * WORD + h * width + i, head * dim + vb * WORD + lane]
        assert rows[head, row, lane * width + i] == want & 255


def test_map_rows_are_padded():
    layout = LAYOUTS["map"]  # 5 pixels in two groups of 3
    assert layout.valid.shape == (8, 2, CORES * WORD)
    assert layout.valid[0::2].sum() == 4 * 3 * 6 and layout.valid[1::2].sum() == 4 * 2 * 6
    assert layout.index(*layout.element(5, 1, 4)) == (2, 4, 4)


def recorded(images=2):
    """(write list, records) of the map tensor, its rows on two ports: even and odd map rows."""
    layout = LAYOUTS["map"]
    ports = {}
    for port, parity in (("mat", 0), ("rmac", 1)):
        rows = [(1000 + g * 2 + b, 0, g, b) for g in range(8) if g // 2 % 2 == parity for b in range(2)]
        writes = WriteList(["map"], *np.array(rows).T)
        records = np.zeros(images * len(rows), record_dtype(8 * CORES * WORD))
        records["cycle"] = np.arange(len(records)) * 3 + 100
        records["addr"] = np.tile(writes.addr, images)
        data = [layout.rows(i)[writes.group, writes.row] for i in range(images)]
        records["data"] = np.where(layout.valid[writes.group, writes.row], data, 0x55).reshape(len(records), -1)
        ports[port] = writes, records
    return ports


def compared(ports, name="map", images=2):
    parts, first = [], []
    for port, (writes, records) in ports.items():
        part, found = compare_port(port, writes, LAYOUTS, records, images)
        parts.append(part)
        first += [found] if found else []
    return port_reports(parts, LAYOUTS), first


def test_two_ports_share_a_tensor():
    """One report, all elements once; the padding pixels may hold anything."""
    (report,), first = compared(recorded())
    assert not first and report.name == "map" and report.mismatches == 0
    assert report.elements == LAYOUTS["map"].values.size
    (half,), first = compared({"mat": recorded()["mat"]})
    assert not first and half.elements == report.elements // 2


def test_first_difference_is_named():
    ports = recorded()
    writes, records = ports["rmac"]
    count = len(writes.addr)
    late, early = 2 * count - 1, count + 5  # second image: last write, and group 3, block 1
    records["data"][late, 0] ^= 1
    records["data"][early, WORD + 1] ^= 4
    (report,), (first,) = compared(ports)
    assert report.mismatches == 2
    y, g = divmod(int(writes.group[5]), 2)
    assert (first.image, first.index) == (1, (y, g * CORES + 1, WORD * writes.row[5] + 1))
    assert first.expected ^ first.got == 4 and first.cycle == records["cycle"][early]
    token = first.index[0] * 5 + first.index[1]
    assert first.expected == LAYOUTS["map"].values[1, token, first.index[2]]


def test_padding_is_not_compared():
    ports = recorded()
    records = ports["mat"][1]
    records["data"][2, 2 * WORD :] ^= 0xFF  # group 1, pixel 5 of 5: outside
    (report,), first = compared(ports)
    assert report.mismatches == 0 and not first


@pytest.mark.parametrize("fault", ["missing", "surplus", "address"])
def test_number_and_addresses(fault):
    ports = recorded()
    writes, records = ports["mat"]
    if fault == "missing":
        ports["mat"] = writes, records[:-1]
    elif fault == "surplus":
        ports["mat"] = writes, np.concatenate([records, records[-1:]])
    else:
        records["addr"][3] += 1
    _, (first,) = compared(ports)
    assert ("row address" if fault == "address" else "number of writes of port mat") in first.tensor


def test_a_port_that_nothing_writes():
    """No write is due: none is right, one is a mismatch."""
    none = WriteList([], *np.zeros((4, 0), int))
    records = recorded()["mat"][1]
    assert compare_port("shifter", none, LAYOUTS, records[:0], 2) == ({}, None)
    parts, first = compare_port("shifter", none, LAYOUTS, records[:1], 2)
    assert parts == {} and (first.expected, first.got) == (0, 1)
