"""UCUM unit codes as people write them: `10*6/uL` is 10⁶/µL, `mm[Hg]` is mmHg.

Pure. A code is for machines; most records repeat it where their unit should stand in words.
"""

import re
from typing import Any

from django.utils.translation import gettext as _

# The codes and their print symbols are those of UCUM 2.1, tables 1 to 17.
BRACKETS = {
    "Hg": "Hg", "H2O": "H₂O", "iU": "IU", "IU": "IU", "pH": "pH", "degF": "°F",
    "in_i": "in", "ft_i": "ft", "lb_av": "lb", "oz_av": "oz",
}  # fmt: skip
WORDS = {"Cel": "°C", "Ohm": "Ω"}
RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")

_TERM = re.compile(
    r"(?P<note>\{[^{}]*\})"
    r"|10[*^](?P<power>-?\d+)"
    r"|\[(?P<bracket>\w+)\]"
    r"|\b(?P<word>Cel|Ohm)\b"
    r"|\b(?P<micro>u)(?=(?:mol|kat|L|l|g|m|s|U)\b|\[)"
    r"|(?P<length>\b[cdkmn]?m)(?P<exponent>[23])\b"
)


def printed(code: str) -> str:
    """A UCUM code in the marks that people use; what has none stays as it is."""
    if code == "a":
        return _("years")
    if code == "{score}":
        return _("points")
    return _TERM.sub(_term, code)


def unit_of(quantity: dict[str, Any]) -> str:
    """The unit of a FHIR Quantity: its own words, or its code as people write it. "" where it has none."""
    code = str(quantity.get("code") or "")
    unit = str(quantity.get("unit") or code)
    return printed(unit) if unit == code or not code else unit


def _term(found: re.Match[str]) -> str:
    if note := found["note"]:
        return _TERM.sub(_term, note[1:-1].replace("_", " "))
    if found["power"]:
        return "10" + found["power"].translate(RAISED)
    if bracket := found["bracket"]:
        return BRACKETS.get(bracket, found[0])
    if word := found["word"]:
        return WORDS[word]
    if found["micro"]:
        return "µ"
    return found["length"] + found["exponent"].translate(RAISED)
