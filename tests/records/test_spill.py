"""What a long run remembers, past what it holds in memory."""

from gateway.labels.labelling import Labels
from gateway.records.intake import Known
from gateway.records.spill import Spill


def test_names_are_found_in_memory_and_on_disk() -> None:
    table = Spill(held=10)
    for n in range(95):
        table[f"Condition/{n}"] = n
    table["Condition/3"] = 300  # written a second time: the later counts
    assert [table.get(f"Condition/{n}") for n in (0, 3, 50, 94)] == [0, 300, 50, 94]
    assert table.get("Condition/95") is None
    assert "Condition/7" in table
    assert "Condition/95" not in table
    table.close()
    assert "Condition/7" not in table


def test_the_labels_of_many_resources_are_known_without_holding_them() -> None:
    known = Known()
    plain, sensitive = Labels("N", (), ("no-rule",)), Labels("R", ("HIV",), ("hiv-icd",))
    for n in range(120_000):
        known[f"Condition/{n}"] = sensitive if n % 3 == 0 else plain if n % 3 == 1 else None
    assert [known.get(f"Condition/{n}") for n in (0, 1, 2, 119_997)] == [sensitive, plain, None, sensitive]
    assert known.get("Condition/120000") is None
    assert len(known._labels) == 3
    assert len(known._numbers._held) < 50_000
