"""Security labels: confidentiality (N, R, V, ordered) and sensitivity (HIV, PSY, ...)."""

CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
SENSITIVITY = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
SYSTEMS = frozenset(
    {CONFIDENTIALITY, SENSITIVITY, "http://hl7.org/fhir/v3/Confidentiality", "http://hl7.org/fhir/v3/ActCode"}
)
LEVEL = {"U": 0, "L": 1, "M": 2, "N": 3, "R": 4, "V": 5}

# What a record is sealed under whose labels are not known. Nothing permits it.
UNLABELLED = "unlabelled"

# parent: children (v3-ActCode InformationSensitivityPolicy; ETH covers alcohol and opioids as PCF reads it)
_CHILDREN = {
    "BH": "COGN DVD EMOTDIS MH SUD",
    "MH": "PSY PSYTHPN",
    "PSY": "PSYTHPN",
    "SUD": "ETH ETHUD OPIOIDUD",
    "ETH": "ETHUD OPIOIDUD",
    "STD": "HIV",
    "SEX": "SDV",
    "VIO": "SDV",
}


def _kin() -> dict[str, frozenset[str]]:
    below: dict[str, set[str]] = {}
    for parent in _CHILDREN:
        pending = [parent]
        while pending:
            children = _CHILDREN.get(pending.pop(), "").split()
            below.setdefault(parent, set()).update(children)
            pending += children
    kin: dict[str, set[str]] = {}
    for parent, children_of in below.items():
        for child in children_of:
            kin.setdefault(parent, set()).add(child)
            kin.setdefault(child, set()).add(parent)
    return {code: frozenset(others) for code, others in kin.items()}


_KIN = _kin()
KNOWN = (
    frozenset(LEVEL)
    | frozenset(_KIN)
    | {"GDIS", "MST", "SCA", "SICKLE", "SPI", "TBOO", "DEMO", "DIA", "DRGIS"}
)


def covered(named: frozenset[str], labels: frozenset[str]) -> bool:
    """Whether a permit naming `named` reaches an item with `labels`: each label must be covered.

    A level covers itself and those below; a sensitivity covers itself alone. An item whose sensitivities
    are all named may be restricted (R) without R being named, for a sensitive record is restricted by its
    kind: naming the kind names that much. R without a sensitivity needs R, and V always needs V.
    """
    sensitivities = labels - LEVEL.keys()
    highest = max((LEVEL[code] for code in named if code in LEVEL), default=-1)
    if sensitivities:
        highest = max(highest, LEVEL["R"])
    return sensitivities <= named and all(LEVEL[code] <= highest for code in labels - sensitivities)


def touched(named: frozenset[str], labels: frozenset[str]) -> bool:
    """Whether a deny naming `named` reaches an item with `labels`: any overlap, or one not ruled out.

    A level reaches itself and those above, and an item that states no level; a sensitivity reaches
    itself, the kinds that it includes and those that include it.
    """
    lowest = min((LEVEL[code] for code in named if code in LEVEL), default=None)
    if lowest is not None:
        levels = [LEVEL[code] for code in labels if code in LEVEL]
        if not levels or max(levels) >= lowest:
            return True
    return any(
        code in labels or not labels.isdisjoint(_KIN.get(code, ())) for code in named if code not in LEVEL
    )
