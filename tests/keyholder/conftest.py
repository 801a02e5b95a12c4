"""The keyholder in a house of its own, for each test anew."""

from collections.abc import Iterator

import pytest

from tests.keyholder.house import House


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.close()
