"""The signature over loaded data: what it must notice, and that the header's word balances it."""

import random

import pytest

from vitforge_hw.arch import isa
from vitforge_hw.arch.build_hash import build_hash, generator_hash
from vitforge_hw.arch.checksum import BITS, POLYNOMIAL, SHIFT, balance, rotate, signature, step, step_back, times_x
from vitforge_hw.arch.config import PRESETS, get_config


def slow(data: bytes, beat_bytes: int) -> int:
    """By the definition, word after word."""
    value = 0
    for at in range(0, len(data), beat_bytes):
        for _ in range(SHIFT):
            value <<= 1
            if value >> BITS:
                value ^= 1 << BITS | POLYNOMIAL
        for i in range(beat_bytes // 4):
            word = int.from_bytes(data[at + 4 * i : at + 4 * i + 4], "little")
            value ^= rotate(word, 7 * i)
    return value


@pytest.mark.parametrize("beat_bytes", [16, 32, 64])
def test_definition(beat_bytes):
    rng = random.Random(beat_bytes)
    for beats in (1, 2, 3, 40):
        data = rng.randbytes(beats * beat_bytes)
        assert signature(data, beat_bytes) == slow(data, beat_bytes)
    assert signature(b"", beat_bytes) == 0


@pytest.mark.parametrize("beat_bytes", [16, 64])
def test_every_single_bit_and_every_exchange_is_noticed(beat_bytes):
    data = bytearray(random.Random(1).randbytes(10 * beat_bytes))
    good = signature(bytes(data), beat_bytes)
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        assert signature(bytes(data), beat_bytes) != good, bit
        data[bit // 8] ^= 1 << bit % 8
    words = [data[i : i + 4] for i in range(0, len(data), 4)]
    for i in range(len(words)):
        for j in range(i):
            swapped = words.copy()
            swapped[i], swapped[j] = swapped[j], swapped[i]
            assert signature(b"".join(swapped), beat_bytes) != good, (i, j)


def test_step_is_invertible_and_the_polynomial_primitive():
    rng = random.Random(2)
    for value in (0, 1, 1 << 31, *(rng.getrandbits(32) for _ in range(99))):
        assert step_back(step(value)) == step(step_back(value)) == value

    def power(exponent: int) -> int:
        """x^exponent."""
        result, base = 1, 2
        while exponent:
            if exponent & 1:
                result = multiply(result, base)
            base, exponent = multiply(base, base), exponent >> 1
        return result

    def multiply(a: int, b: int) -> int:
        out = 0
        while b:
            out ^= a if b & 1 else 0
            a, b = times_x(a), b >> 1
        return out

    order = (1 << 32) - 1  # 3 * 5 * 17 * 257 * 65537
    assert power(order) == 1
    assert all(power(order // p) != 1 for p in (3, 5, 17, 257, 65537))


@pytest.mark.parametrize("beat_bytes", [16, 64])
@pytest.mark.parametrize("beats", [1, 4, 100])
def test_balance(beat_bytes, beats):
    data = bytearray(random.Random(beats).randbytes(beats * beat_bytes))
    data[12:16] = bytes(4)
    data[12:16] = balance(bytes(data), beat_bytes, 3).to_bytes(4, "little")
    assert signature(bytes(data), beat_bytes) == 0


def test_the_header_holds_its_checksum_where_it_is_written():
    word = isa.pack(isa.HEADER_FIELDS, {"checksum": 0xDEADBEEF}, "header")
    assert word == 0xDEADBEEF << 32 * isa.CHECKSUM_WORD


def test_build_hash_depends_on_everything(monkeypatch):
    tiny = get_config("tiny")
    assert len({build_hash(c) for c in PRESETS.values()}) == len(PRESETS)
    assert build_hash(tiny) == build_hash(tiny, generator_hash()) != build_hash(tiny, b"another")
    before = build_hash(tiny)
    monkeypatch.setattr(isa, "WAIT_FIELDS", isa.WAIT_FIELDS[::-1])
    assert build_hash(tiny) != before
