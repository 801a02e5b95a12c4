"""What a kind of record is called: to the patient, and to anybody else where that word speaks to the patient.

What staff read out to a patient, as when they write down an answer, stays in the patient's words.
"""

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from consent.explanation import KINDS

OF_A_PATIENT: dict[str, Promise] = {
    "Patient": _("About the patient"),
    "MedicationStatement": _("Medicines the patient told us about"),
    "MedicationAdministration": _("Medicines given to the patient"),
}


def name_of(kind: str) -> Promise | str:
    """`kind` is a FHIR resource type; one that patients have no word for keeps its own."""
    return OF_A_PATIENT[kind] if kind in OF_A_PATIENT else name_to_a_patient(kind)


def name_to_a_patient(kind: str) -> Promise | str:
    return KINDS[kind].name if kind in KINDS else kind
