"""The rule tables of `labelling.py`: which code is sensitive, and how each resource type states what it is.

Data only. Sensitivity codes are HL7 v3-ActCode's information sensitivity policies. A table lists the
codes as they stand; it does not know a code's descendants in its terminology. Change a row, raise `VERSION`,
and keep the new table beside the older ones: `manage.py labels --json > gateway/labels/history/VERSION.json`.
"""

from dataclasses import dataclass

VERSION = "2026.1"
# Raised where the same tables are read otherwise (labelling.py): every record is then labelled anew.
METHOD = 1

SNOMED = "http://snomed.info/sct"
LOINC = "http://loinc.org"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
ICD_10 = "http://hl7.org/fhir/sid/icd-10"
CVX = "http://hl7.org/fhir/sid/cvx"
DICOM = "http://dicom.nema.org/resources/ontology/DCM"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"

# Other names under which the same terminology arrives. National ICD-10s share the chapters used below.
ALIASES = {
    "http://hl7.org/fhir/sid/icd-10-cm": ICD_10,
    "http://fhir.de/CodeSystem/bfarm/icd-10-gm": ICD_10,
    "urn:oid:2.16.840.1.113883.6.90": ICD_10,
    "urn:oid:2.16.840.1.113883.6.3": ICD_10,
    "urn:oid:2.16.840.1.113883.6.96": SNOMED,
    "urn:oid:2.16.840.1.113883.6.1": LOINC,
    "urn:oid:2.16.840.1.113883.6.88": RXNORM,
    "urn:oid:2.16.840.1.113883.12.292": CVX,
    "urn:oid:2.16.840.1.113883.5.4": ACT_CODE,
    "urn:oid:2.16.840.1.113883.5.25": CONFIDENTIALITY,
    "http://hl7.org/fhir/v3/ActCode": ACT_CODE,
    "http://hl7.org/fhir/v3/Confidentiality": CONFIDENTIALITY,
}

# Terminologies that these rules cover. The last three hold no code that is sensitive by itself: vaccines,
# imaging modalities, encounter classes. A code of any other system (local, CPT, NDC) tells the rules nothing.
# Each with the short name under which a code of it is noted beside a record (`labelling.noted`).
COVERED = {
    SNOMED: "sct",
    LOINC: "loinc",
    RXNORM: "rxnorm",
    ICD_10: "icd",
    CVX: "cvx",
    DICOM: "dcm",
    ACT_CODE: "act",
}


@dataclass(frozen=True)
class Rule:
    """`codes` of `system` put `sensitivity` on a resource, because of `basis`. ICD-10 codes are prefixes."""

    name: str
    system: str
    sensitivity: tuple[str, ...]
    basis: str
    codes: str


PART_2 = "42 CFR Part 2: substance use disorder records"
MENTAL = "mental health; GDPR Art. 9, state law"
HIV_LAW = "HIV status; state law"
REPRODUCTIVE = "sexual and reproductive health; GDPR Art. 9, state law"
GENETIC = "genetic information; GINA, GDPR Art. 9"
VIOLENCE = "abuse and violence; VAWA, 45 CFR 164.512(c)"

RULES = (
    # Substance use. ETH is the parent: whoever withholds it withholds its kinds.
    Rule("alcohol-icd", ICD_10, ("ETH", "ETHUD"), PART_2, "F10 K70 G312 Z714 Z502 R780"),
    Rule("opioid-icd", ICD_10, ("ETH", "OPIOIDUD"), PART_2, "F11 T400 T401 T402 T403 T404"),
    Rule(
        "substance-icd", ICD_10, ("ETH",), PART_2, "F12 F13 F14 F15 F16 F18 F19 Z715 Z503 T405 T407 T409 T436"
    ),
    Rule("alcohol-snomed", SNOMED, ("ETH", "ETHUD"), PART_2, "7200002 66590003 15167005 25702006"),
    Rule("opioid-snomed", SNOMED, ("ETH", "OPIOIDUD"), PART_2, "75544000 5602001"),
    Rule(
        "substance-snomed",
        SNOMED,
        ("ETH",),
        PART_2,
        "26416006 191816009 6525002 55680006 361055000",
    ),
    Rule("alcohol-loinc", LOINC, ("ETH", "ETHUD"), PART_2, "75626-2 72109-2 5643-2"),
    Rule("substance-loinc", LOINC, ("ETH",), PART_2, "82667-7 3879-4 3397-7 19659-2"),
    Rule("opioid-rxnorm", RXNORM, ("ETH", "OPIOIDUD"), PART_2, "1819 6813 7243 351266 351267 1010600"),
    Rule("alcohol-rxnorm", RXNORM, ("ETH", "ETHUD"), PART_2, "3554 82819 835726"),
    # Mental health.
    Rule(
        "psychiatry-icd",
        ICD_10,
        ("PSY",),
        MENTAL,
        "F2 F3 F4 F5 F6 F7 F8 F9 R4585 T1491 X6 X7 X80 X81 X82 X83 X84",
    ),
    Rule(
        "psychiatry-snomed",
        SNOMED,
        ("PSY",),
        MENTAL,
        "36923009 370143000 35489007 13746004 58214004 197480006 47505003 74732009 191736004 406506008 "
        "72366004 6471006 718347000 736254008 79094001 88848003 225337009 425680009 304822001 737434004 "
        "385724002",
    ),
    Rule("psychiatry-loinc", LOINC, ("PSY",), MENTAL, "44261-6 44249-1 55758-7 70274-6 69737-5 71354-5"),
    Rule(
        "psychiatry-rxnorm",
        RXNORM,
        ("PSY",),
        MENTAL,
        "4493 36437 6448 2626 61381 35636 51272 89013 5093 321988 2556 32937 39786 72625 42347 15996 10737 "
        "406022 312938 312940 312941 310384 310385",
    ),
    # HIV.
    Rule("hiv-icd", ICD_10, ("HIV",), HIV_LAW, "B20 B21 B22 B23 B24 Z21 O987 R75 Z206 Z717"),
    Rule("hiv-snomed", SNOMED, ("HIV",), HIV_LAW, "86406008 62479008 91947003 165816005"),
    Rule(
        "hiv-loinc",
        LOINC,
        ("HIV",),
        HIV_LAW,
        "7917-8 29893-5 5221-7 20447-9 25836-8 56888-1 75622-1 31201-7 48345-3 30361-0 10351-5 24467-3",
    ),
    Rule(
        "hiv-rxnorm",
        RXNORM,
        ("HIV",),
        HIV_LAW,
        "300195 322248 276237 68244 11413 195085 1433868 1999660 719872 460132 343047 85762 190521 1102270",
    ),
    # Sexual and reproductive health.
    Rule(
        "std-icd",
        ICD_10,
        ("SEX", "STD"),
        REPRODUCTIVE,
        "A50 A51 A52 A53 A54 A55 A56 A57 A58 A59 A60 A63 A64 Z202",
    ),
    Rule(
        "reproduction-icd",
        ICD_10,
        ("SEX",),
        REPRODUCTIVE,
        "Z30 Z31 Z332 Z725 N97 O03 O04 O05 O06 O07 O08 F52 F64",
    ),
    Rule(
        "reproduction-snomed",
        SNOMED,
        ("SEX",),
        REPRODUCTIVE,
        "72892002 19169002 79586000 424441002 424619006 65200003 755621000000101 386639001 8098009",
    ),
    Rule("std-loinc", LOINC, ("SEX", "STD"), REPRODUCTIVE, "20507-0 22587-0 43304-5 43305-2 21613-5 24111-7"),
    Rule("pregnancy-loinc", LOINC, ("SEX",), REPRODUCTIVE, "2106-3 2118-8 80384-1 82810-3"),
    Rule(
        "contraception-rxnorm",
        RXNORM,
        ("SEX",),
        REPRODUCTIVE,
        "757594 978950 748879 389221 751905 1856546 748962 807283 831533 749785 749762 748856 6373",
    ),
    # Genetics.
    Rule("genetics-icd", ICD_10, ("GDIS",), GENETIC, "Q9 E84 D57 D66 D67 G10 E70 E75 Z14 Z15"),
    Rule(
        "genetics-snomed",
        SNOMED,
        ("GDIS",),
        GENETIC,
        "190905008 58756001 417357006 41040004 412734009 412738007",
    ),
    Rule(
        "genetics-loinc",
        LOINC,
        ("GDIS",),
        GENETIC,
        "51969-4 53041-0 81247-9 51968-6 51958-7 48018-6 81252-9 69548-6 55233-1 21636-6",
    ),
    # Violence.
    Rule("violence-icd", ICD_10, ("SDV",), VIOLENCE, "T74 T76 Y05 Y06 Y07 Z69 Z9141 O9A3 O9A4 O9A5"),
    Rule("violence-snomed", SNOMED, ("SDV",), VIOLENCE, "706893006 397940009 248110007"),
    Rule("violence-loinc", LOINC, ("SDV",), VIOLENCE, "76504-0 76499-3"),
)


@dataclass(frozen=True)
class Statement:
    """How one resource type is labelled.

    by_type  it says nothing clinical: labelled N as it is
    needs    at least one of these elements must hold a code of a covered terminology
    follows  references whose labels pass to this resource, where what they name is at hand
    must     of these, each must be at hand: the meaning of this resource stands there
    """

    needs: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()
    must: tuple[str, ...] = ()
    by_type: bool = False

    def __str__(self) -> str:
        if self.by_type:
            return "says nothing clinical: N"
        parts = (
            ("needs a known code in", self.needs, " or "),
            ("must follow", self.must, ", "),
            ("follows", self.follows, ", "),
        )
        return "; ".join(f"{says} {between.join(names)}" for says, names, between in parts if names)


_BY_TYPE = Statement(by_type=True)
_CODE = Statement(needs=("code",))
_MEDICATION = Statement(needs=("medicationCodeableConcept",), must=("medicationReference",))
_BILL = Statement(
    needs=("item", "procedure", "diagnosis"),
    follows=("claim",),
    must=("diagnosis.diagnosisReference", "procedure.procedureReference", "prescription"),
)

# A resource type that is not here has no statement, and its resources are withheld.
STATEMENTS = {
    "AllergyIntolerance": _CODE,
    "CarePlan": Statement(needs=("category", "activity"), follows=("addresses", "goal")),
    "CareTeam": Statement(needs=("category", "reasonCode"), follows=("reasonReference",)),
    "Claim": _BILL,
    "Condition": _CODE,
    "Coverage": Statement(needs=("type",)),
    "Device": Statement(needs=("type",)),
    "DiagnosticReport": Statement(needs=("code",), follows=("result",)),
    "DocumentReference": Statement(needs=("type",)),
    "Encounter": Statement(needs=("class", "type"), follows=("diagnosis.condition", "reasonReference")),
    "ExplanationOfBenefit": _BILL,
    "FamilyMemberHistory": Statement(needs=("condition",)),
    "Flag": _CODE,
    "Goal": Statement(needs=("description", "target"), follows=("addresses",)),
    "HealthcareService": _BY_TYPE,
    "ImagingStudy": Statement(needs=("procedureCode", "modality", "series"), follows=("reasonReference",)),
    "Immunization": Statement(needs=("vaccineCode",)),
    "Location": _BY_TYPE,
    "Medication": _CODE,
    "MedicationAdministration": _MEDICATION,
    "MedicationDispense": _MEDICATION,
    "MedicationRequest": _MEDICATION,
    "MedicationStatement": _MEDICATION,
    "Observation": Statement(needs=("code",), follows=("hasMember",)),
    "Organization": _BY_TYPE,
    "Patient": _BY_TYPE,
    "Practitioner": _BY_TYPE,
    "PractitionerRole": _BY_TYPE,
    "Procedure": Statement(needs=("code",), follows=("reasonReference",)),
    "RiskAssessment": Statement(needs=("code",)),
    "ServiceRequest": Statement(needs=("code",), follows=("reasonReference",)),
    "Specimen": Statement(needs=("type",)),
}

# Labels pass along references, so what is referred to is labelled first. Types that are not here come at 1.
ORDER = {
    "Patient": 0,
    "Medication": 0,
    "CarePlan": 2,
    "DiagnosticReport": 2,
    "Encounter": 2,
    "MedicationAdministration": 2,
    "MedicationDispense": 2,
    "MedicationRequest": 2,
    "MedicationStatement": 2,
    "Procedure": 2,
    "ServiceRequest": 2,
    "Claim": 3,
    "ExplanationOfBenefit": 4,
}
# Whose labels are remembered while files are taken in, because another type's may follow from them.
FOLLOWED = frozenset(
    {
        "Claim",
        "Condition",
        "Goal",
        "Immunization",
        "Medication",
        "MedicationRequest",
        "Observation",
        "Procedure",
    }
)
