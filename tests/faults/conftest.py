"""One installation for each file; whatever a test broke is mended before the next."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.house import House, open_house


@pytest.fixture(scope="module")
def whole(django_db_blocker: Any) -> Iterator[House]:
    with django_db_blocker.unblock(), open_house() as house:
        yield house


@pytest.fixture
def house(whole: House) -> House:
    whole.mend()
    return whole
