"""What staff call a kind of record: as patients do, but where the patient's word speaks to the patient.

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
    if kind in OF_A_PATIENT:
        return OF_A_PATIENT[kind]
    return KINDS[kind].name if kind in KINDS else kind
