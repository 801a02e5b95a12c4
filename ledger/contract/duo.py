"""GA4GH Data Use Ontology: what use is permitted, and the conditions that bind it.

A *permission* says for what (GRU includes HMB includes DS). A *condition* (DUO: modifier) binds whoever
uses the data: it holds only where the request claims to satisfy it.
"""

SYSTEM = "http://purl.obolibrary.org/obo/duo.owl"
DISEASES = "http://purl.obolibrary.org/obo/mondo.owl"

# number: short name
_PERMISSIONS = {
    "0000004": "NRES",
    "0000042": "GRU",
    "0000006": "HMB",
    "0000007": "DS",
    "0000011": "POA",
    "0000043": "CC",
}
_CONDITIONS = {
    "0000012": "RS",
    "0000015": "NMDS",
    "0000016": "GSO",
    "0000018": "NPUNCU",
    "0000019": "PUB",
    "0000020": "COL",
    "0000021": "IRB",
    "0000022": "GS",
    "0000024": "MOR",
    "0000025": "TS",
    "0000026": "US",
    "0000027": "PS",
    "0000028": "IS",
    "0000029": "RTN",
    "0000044": "NPOA",
    "0000045": "NPU",
    "0000046": "NCU",
}
_NAMES = _PERMISSIONS | _CONDITIONS
PERMISSIONS = frozenset(_PERMISSIONS.values())
CONDITIONS = frozenset(_CONDITIONS.values())
_PARENT = {"GRU": "NRES", "CC": "NRES", "HMB": "GRU", "POA": "GRU", "DS": "HMB"}
_PREFIXES = ("http://purl.obolibrary.org/obo/DUO_", "DUO:", "DUO_", "duo:", "")


def name(code: str) -> str | None:
    """The short name of `code`, given as `DUO:0000042`, `DUO_0000042`, its IRI or `GRU`; None if unknown."""
    for prefix in _PREFIXES:
        if code.startswith(prefix):
            rest = code[len(prefix) :]
            if rest in _NAMES:
                return _NAMES[rest]
            if rest in PERMISSIONS or rest in CONDITIONS:
                return rest
    return None


def covering(permission: str) -> frozenset[str]:
    """`permission` and every permission that includes it."""
    found = [permission]
    while found[-1] in _PARENT:
        found.append(_PARENT[found[-1]])
    return frozenset(found)


def claims(use: frozenset[str]) -> frozenset[str]:
    """The conditions that a request of these codes claims to satisfy."""
    if "NPUNCU" in use:
        use |= {"NPU", "NCU"}
    elif {"NPU", "NCU"} <= use:
        use |= {"NPUNCU"}
    return use
