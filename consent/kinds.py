"""What a kind of record, a label or a purpose is called: the patient's own word, or another for everybody
else where that word speaks to the patient.

What staff read out to a patient, as when they write down an answer, stays in the patient's words.
"""

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from consent.explanation import KINDS, PURPOSES, SENSITIVE

OF_A_PATIENT: dict[str, Promise] = {
    "Patient": _("About the patient"),
    "Medication": _("What a medicine is"),
    "MedicationStatement": _("Medicines the patient told us about"),
    "MedicationAdministration": _("Medicines given to the patient"),
}
# v3-ActReason code -> why somebody asks.
PURPOSES_OF_A_PATIENT: dict[str, Promise] = {
    "TREAT": _("To care for the patient"),
    "CAREMGT": _("To plan the patient’s care"),
    "HMARKT": _("To sell things to the patient"),
    "PATRQT": _("Because the patient asked"),
}
# Labels that name no kind of record: v3-Confidentiality, and v3-ObservationValue of what a program said.
OTHER_LABELS: dict[str, Promise] = {
    "N": _("Usual"),
    "R": _("Restricted"),
    "V": _("Very restricted"),
    "AIAST": _("Said by an AI"),
}


def name_of(kind: str) -> Promise | str:
    """`kind` is a FHIR resource type; one that patients have no word for keeps its own."""
    return OF_A_PATIENT[kind] if kind in OF_A_PATIENT else name_to_a_patient(kind)


def name_to_a_patient(kind: str) -> Promise | str:
    return KINDS[kind].name if kind in KINDS else kind


def purpose_of(code: str) -> Promise | str:
    """`code` is of v3-ActReason; one that has no word keeps its own."""
    return PURPOSES_OF_A_PATIENT[code] if code in PURPOSES_OF_A_PATIENT else PURPOSES.get(code, code)


def label_of(code: str) -> Promise | str:
    """`code` is a label of a record (docs/labels.md); one that has no word keeps its own."""
    return SENSITIVE[code].name if code in SENSITIVE else OTHER_LABELS.get(code, code)
