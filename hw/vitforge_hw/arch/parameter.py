"""A parameter of a configuration: its default with meaning, unit and limits, and the checks that follow from them."""

import dataclasses
import difflib
from collections.abc import Iterable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one integer parameter may be, whatever the others are."""

    least: int = 1
    most: int | None = None
    choices: tuple[int, ...] = ()  #: if given, nothing else
    power_of_two: bool = False

    def __str__(self) -> str:
        if self.choices:
            return ", ".join(map(str, self.choices[:-1])) + f" or {self.choices[-1]}"
        kind = "a power of two" if self.power_of_two else "an integer"
        return f"{kind}, {self.least} to {self.most}" if self.most else f"{kind}, at least {self.least}"

    def fault(self, name: str, value: object) -> str | None:
        """One text naming parameter, rule and value; None if ``value`` is within the limits."""
        if not isinstance(value, int) or isinstance(value, bool) or value < min(self.least, 1):
            return f"{name} must be {'a positive integer' if self.least else 'an integer, at least 0'}, not {value!r}"
        if self.choices and value not in self.choices:
            return f"{name} must be {self}, not {value}"
        if value < self.least or (self.most and value > self.most):
            return f"{name} must be {self.least} to {self.most}, not {value}"
        if self.power_of_two and value & (value - 1):
            return f"{name} must be a power of two, not {value}"
        return None


def parameter(default: Any, meaning: str, unit: str = "", **limits: Any) -> Any:
    """A dataclass field: ``default``, ``meaning`` (with the rules that involve other parameters), ``unit``, Limits."""
    known = Limits(**limits) if type(default) is int else None
    return dataclasses.field(default=default, metadata={"meaning": meaning, "unit": unit, "limits": known})


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """`` (did you mean X?)``, or nothing if no known name is near."""
    small = {k.lower(): k for k in known}
    near = difflib.get_close_matches(str(name).lower(), list(small), n=1)
    return f" (did you mean {small[near[0]]}?)" if near else ""
