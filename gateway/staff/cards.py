"""A model card as rows of a page: each member by its name in words, each value as text, the telling first."""

from collections.abc import Iterator, Mapping
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from consent.kinds import name_of
from gateway.records.ucum import printed

# The members of a card of the catalogue (gateway/analysis/catalogue/model.py), in the order of a page.
NAMES: dict[str, Promise] = {
    "title": gettext_lazy("Title"),
    "intended_use": gettext_lazy("What it is for"),
    "outcome": gettext_lazy("Outcome"),
    "limits": gettext_lazy("Limits"),
    "tested_error": gettext_lazy("How it was tested"),
    "paper": gettext_lazy("Paper"),
    "provider": gettext_lazy("Provider"),
    "inputs": gettext_lazy("Inputs"),
    "reads": gettext_lazy("Reads"),
    "records": gettext_lazy("Where it finds them"),
    "unit": gettext_lazy("Unit"),
    "bands": gettext_lazy("Bands"),
    "bands_source": gettext_lazy("Where the bands are from"),
    "alerts": gettext_lazy("When it alerts"),
    "name": gettext_lazy("Name"),
    "version": gettext_lazy("Version"),
}
# Members whose text is of the page: the kinds of record by their names.
OURS = {"reads"}
# On which side of its number an alert is raised, in the language of a card.
SIDES = {"at_or_above": "at %s or above", "below": "below %s"}


def rows(card: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """`(name, text, language)` of each member: one line for each of a list or an object. A card is written in
    English (`en`) but for what is in the language of the page (an empty `language`). What a provider calls by
    a name that no card of ours has keeps that name, and stands last."""
    known = [name for name in NAMES if name in card]
    return [
        (str(NAMES.get(name, name)), "\n".join(_lines(name, card[name])), "" if name in OURS else "en")
        for name in [*known, *sorted(card.keys() - NAMES.keys())]
    ]


def _lines(name: str, value: Any) -> Iterator[str]:
    if name == "unit" and isinstance(value, str):
        yield printed(value)
    elif isinstance(value, list):
        yield from (_item(name, each) for each in value)
    else:
        yield from _plain(value)


def _item(name: str, value: Any) -> str:
    """One input by what it is and the range in which the model takes it; one alert by what it says."""
    match name, value:
        case "inputs", {"what": str(what), "unit": str(unit), "low": low, "high": high}:
            between = _("%(low)s to %(high)s %(unit)s") % {"low": low, "high": high, "unit": printed(unit)}
            return _whole(f"{what}: {between}", value, {"what", "unit", "low", "high"})
        case "inputs", {"what": str(what), "choices": list(choices)}:
            return _whole(f"{what}: {', '.join(map(str, choices))}", value, {"what", "choices"})
        case "inputs", {"what": str(what)}:
            return _whole(what, value, {"what"})
        case "alerts", {"says": str(says), "source": str(source)}:
            return _alert(f"{says} {source}", value)
        case "reads", str(kind):
            return str(name_of(kind))
    return ", ".join(_plain(value))


def _alert(told: str, value: Mapping[str, Any]) -> str:
    worded = {"says", "source"}
    match value:
        case {"at": at, "side": "at_or_above" | "below" as side, "severity": severity}:
            told += f" ({SIDES[side] % at}; severity: {severity})"
            worded |= {"at", "side", "severity"}
    return _whole(told, value, worded)


def _whole(told: str, value: Mapping[str, Any], worded: set[str]) -> str:
    """Who approves a card reads all of it: what has no words here follows in brackets. An input's name and
    kind are in its words."""
    rest = {name: each for name, each in value.items() if name not in {*worded, "name", "kind"}}
    return f"{told} ({', '.join(_plain(rest))})" if rest else told


def _plain(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [f"{name.replace('_', ' ')}: {', '.join(_plain(each))}" for name, each in value.items()]
    if isinstance(value, list):
        return [", ".join(_plain(each)) for each in value]
    return [str(value)]
