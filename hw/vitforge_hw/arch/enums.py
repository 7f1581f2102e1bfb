"""Codes that instructions carry, declared once: activations, code rules, division rules, kinds, destinations.

Graphs name a member by its ``word`` (``Act.GELU.word == "gelu"``), instruction fields hold its number.
"""

import enum

P_BITS = 12  #: the intermediate p of the post-processing, signed


class Code(enum.IntEnum):
    """Base: a field's value with the word that graphs, schemes and options use for it."""

    @property
    def word(self) -> str:
        return self.name.lower()

    @classmethod
    def words(cls) -> tuple[str, ...]:
        """The words of all members, in the order of their numbers."""
        return tuple(member.word for member in cls)

    @classmethod
    def of(cls, word: str) -> int:
        """The field's value of a word; ValueError names the choices."""
        if word not in cls.words():
            raise ValueError(f"{cls.__name__} must be one of {', '.join(cls.words())}, not {word!r}")
        return int(cls[word.upper()])


class Act(Code):
    """Activation of the post-processing (field ``act``)."""

    IDENTITY = 0
    GELU = 1
    HARDSWISH = 2


class CodeRule(Code):
    """How softmax codes its rows and what the codes weigh (field ``rule`` of SOFTMAX and SHIFTER)."""

    MAXREL = 0
    LOG2 = 1


class DivisionRule(Code):
    """How linear attention divides (bit 11 of ``act1`` where ``divide`` is set)."""

    LOG2 = 0
    RECIPROCAL = 1


class Kind(Code):
    """What an engine instruction does (field ``kind`` of RMAC; MAT has POINTWISE alone)."""

    POINTWISE = 0
    DEPTHWISE = 1
    KEY_VALUE = 2
    TOKEN_SUM = 3


class Target(Code):
    """Where the writer of an engine puts finished tiles (POST_OP's ``dest``)."""

    BUFFER = 0
    Z = 1
    KSUM = 2


class Dest(Code):
    """Memory that a WEIGHT_DMA fills (field ``dest``)."""

    WEIGHTS = 0
    PARAMS = 1
    LN_PARAMS = 2
