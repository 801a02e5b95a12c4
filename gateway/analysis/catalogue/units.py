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
    slope, offset = _scale(unit, to, molar_mass)
    return (value * slope + offset).quantize(Decimal("0.000001"))


@lru_cache(maxsize=256)
def _scale(unit: str, to: str, molar_mass: Decimal | None) -> tuple[Decimal, Decimal]:
    """What one `unit` is in `to`, and where its zero lies (not at zero for Fahrenheit and Celsius)."""
    if not unit or len(unit) > 40:
        raise UnknownUnit
    try:
        registry = _registry()
        target = registry.from_ucum(to)
        one, none = (
            _in_mass(registry, registry.Quantity(float(n), registry.from_ucum(unit)), molar_mass)
            for n in (1, 0)
        )
        offset = float(none.to(target).magnitude)
        slope = float(one.to(target).magnitude) - offset
        if slope <= 0:
            raise UnknownUnit
        return Decimal(f"{slope:.12g}"), Decimal(f"{offset:.12g}")
    except UnknownUnit:
        raise
    except Exception as error:  # the grammar, the registry and pint each raise errors of their own
        raise UnknownUnit from error


def _in_mass(registry: Any, quantity: Any, molar_mass: Decimal | None) -> Any:
    """An amount of the substance as its mass: a concentration of it, or a ratio of something to it."""
    if molar_mass is None:
        return quantity
    mass = registry.Quantity(float(molar_mass), "gram/mole")
    if quantity.check("[substance]/[length]**3"):
        return quantity * mass
    if quantity.check("[mass]/[substance]"):
        return quantity / mass
    return quantity
