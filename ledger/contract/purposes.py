"""Purposes of use (HL7 v3-ActReason, below PurposeOfUse) and their hierarchy."""

SYSTEM = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
SYSTEMS = frozenset({SYSTEM, "http://hl7.org/fhir/v3/ActReason", "urn:oid:2.16.840.1.113883.5.8"})

# parent: children
_CHILDREN = {
    "PurposeOfUse": "HMARKT HOPERAT HPAYMT HRESCH PATRQT PUBHLTH TREAT",
    "HOPERAT": "CAREMGT DONAT FRAUD GOV HACCRED HCOMPL HDECD HDIRECT HDM HLEGAL HOUTCOMS HPRGRP HQUALIMP"
    " HSYSADMIN LABELING METAMGT MEMADMIN MILCDM PATADMIN PATSFTY PERFMSR RECORDMGT SYSDEV TRAIN",
    "SYSDEV": "HTEST",
    "HPAYMT": "CLMATTCH COVAUTH COVERAGE REMITADV",
    "COVERAGE": "ELIGDTRM ELIGVER ENROLLM MILDCRG",
    "HRESCH": "BIORCH CLINTRCH DSRCH POARCH TRANSRCH",
    "CLINTRCH": "CLINTRCHNPC CLINTRCHPC PRECLINTRCH",
    "PATRQT": "FAMRQT PWATRNY SUPNWK",
    "PUBHLTH": "DISASTER THREAT",
    "TREAT": "CLINTRL COC ETREAT POPHLTH",
    "ETREAT": "BTG ERTREAT",
}
_PARENT = {child: parent for parent, children in _CHILDREN.items() for child in children.split()}
KNOWN = frozenset(_PARENT) | {"PurposeOfUse"}


def ancestors(code: str) -> frozenset[str]:
    """`code` and every purpose that includes it: a consent to any of these covers `code`."""
    found = [code]
    while found[-1] in _PARENT:
        found.append(_PARENT[found[-1]])
    return frozenset(found)


def descendants(code: str) -> frozenset[str]:
    """`code` and every purpose that it includes."""
    return frozenset(one for one in KNOWN if code in ancestors(one)) | {code}
