"""A statement gives what the query of which it was written gives, for each value anew."""

import pytest
from django.utils import timezone

from consent.models import Requester
from gateway.analysis.models import Job
from gateway.statements import Given, Statement

pytestmark = pytest.mark.django_db

FIELDS = ("id", "use", "index_date", "created_at", "settled_at", "requester_id", "requester__name")
OF_ONE = Statement(
    lambda: (
        Job.objects.filter(requester=Given("requester", Requester._meta.pk), kind="analyse")
        .values_list(*FIELDS)
        .order_by("created_at")
    )
)


def test_it_gives_what_its_query_gives() -> None:
    one, other = (Requester.objects.create(name=name) for name in ("One", "Other"))
    for requester, settled_at in ((one, None), (one, timezone.now()), (other, None)):
        Job.objects.create(
            requester=requester, use=["HMB", "É"], index_date=timezone.localdate(), settled_at=settled_at
        )
    for requester in (one, other):
        query = Job.objects.filter(requester=requester).order_by("created_at")
        assert OF_ONE.rows(requester=requester.pk) == list(query.values_list(*FIELDS))
    assert OF_ONE.rows(requester="0" * 32) == []


def test_a_value_that_is_missing_is_no_value() -> None:
    with pytest.raises(KeyError):
        OF_ONE.rows()
