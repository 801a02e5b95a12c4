"""Reading the sealed log once, leaf by leaf: leaves are dense and their rows never change, so a reader misses
no act and meets none twice."""

from collections.abc import Callable, Collection, Sequence

from django.db import transaction

from gateway.compliance.models import Watched
from ledger.audit.models import AuditBatch, AuditRow

AT_ONCE = 5_000  # leaves

# Its readers, each with a place of its own.
ALARMS, RETRAINING = 1, 2


@transaction.atomic
def read_on(reader: int, kinds: Collection[str], handle: Callable[[Sequence[AuditRow]], int]) -> int:
    """Hand the rows of these kinds since this reader's last round to `handle`; what that answers.

    The place moves on in the transaction of what was made of the rows: both are kept, or neither.
    """
    Watched.objects.get_or_create(pk=reader)
    cursor = Watched.objects.select_for_update().get(pk=reader)
    size = AuditBatch.objects.order_by("-size").values_list("size", flat=True).first() or 0
    end = min(size, cursor.leaf + AT_ONCE)
    if end <= cursor.leaf:
        return 0
    rows = AuditRow.objects.filter(leaf__gte=cursor.leaf, leaf__lt=end, kind__in=kinds).order_by("leaf")
    made = handle(list(rows))
    Watched.objects.filter(pk=reader).update(leaf=end)
    return made
