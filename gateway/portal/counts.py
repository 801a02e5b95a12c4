"""How many items there are of each kind, as the keyholder counts them: nothing is opened for it."""

from collections import Counter
from dataclasses import dataclass

from django.conf import settings

from consent.explanation import SENSITIVE
from consent.models import ConsentRequest, Patient
from gateway.keyholder.client import Keyholder
from ledger.errors import GatewayError


@dataclass(frozen=True)
class Counts:
    """Items by kind (without sensitive ones) and by sensitivity code; `known`: whether they could be had."""

    known: bool
    kinds: Counter[str]
    sensitive: Counter[str]


def count_items(patient: Patient, question: ConsentRequest) -> Counts:
    """Counts for what `question` asks of `patient`; an item with two sensitivities counts in both."""
    kinds: Counter[str] = Counter()
    sensitive: Counter[str] = Counter()
    try:
        found = Keyholder(settings.KEYHOLDER_SOCKET).index(patient=patient.id)
    except GatewayError:
        return Counts(False, kinds, sensitive)
    for entry in found:
        if entry["resource_type"] not in question.kinds:
            continue
        private = SENSITIVE.keys() & set(entry["labels"])
        for code in private:
            sensitive[code] += entry["count"]
        if not private:
            kinds[entry["resource_type"]] += entry["count"]
    return Counts(True, kinds, sensitive)
