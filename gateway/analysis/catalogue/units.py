"""UCUM units to the unit that a model asks for. Pint and the UCUM grammar load only when units differ."""

from decimal import Decimal
from functools import lru_cache
from typing import Any

UCUM = "http://unitsofmeasure.org"


class UnknownUnit(Exception):
    """The unit is missing, is not UCUM, or measures another kind of quantity."""


@lru_cache(maxsize=1)
def _registry() -> Any:
    from ucumvert import PintUcumRegistry  # about a second: most records never need it

    return PintUcumRegistry()


def convert(value: Decimal, *, unit: str, to: str, molar_mass: Decimal | None = None) -> Decimal:
    """`value` in UCUM `unit`, expressed in UCUM `to`; between amount and mass by `molar_mass` (g/mol).

    Exact when the units are equal, else to six decimals. Raises UnknownUnit.
    """
    if unit == to:
        return value
    return (value * _factor(unit, to, molar_mass)).quantize(Decimal("0.000001"))


@lru_cache(maxsize=256)
def _factor(unit: str, to: str, molar_mass: Decimal | None) -> Decimal:
    """What one `unit` is in `to`. A scale with an offset (Celsius) has no such factor and is refused."""
    if not unit or len(unit) > 40:
        raise UnknownUnit
    try:
        registry = _registry()
        target = registry.from_ucum(to)
        one, none = (registry.Quantity(float(n), registry.from_ucum(unit)) for n in (1, 0))
        if molar_mass is not None and one.check("[substance]/[length]**3"):
            mass = registry.Quantity(float(molar_mass), "gram/mole")
            one, none = one * mass, none * mass
        factor = float(one.to(target).magnitude)
        if none.to(target).magnitude != 0 or factor <= 0:
            raise UnknownUnit
        return Decimal(f"{factor:.12g}")
    except UnknownUnit:
        raise
    except Exception as error:  # the grammar, the registry and pint each raise errors of their own
        raise UnknownUnit from error
