"""The second factor of the staff site; who may open what is tested in tests/test_routes.py."""

from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

pytestmark = pytest.mark.django_db


def test_without_a_second_factor_nothing_opens(member: Callable[..., Client]) -> None:
    client = member("reviewer", factor=False)
    page = client.get(reverse("staff_queue"))
    assert page.status_code == 403
    assert "Add a second step first" in page.content.decode()
