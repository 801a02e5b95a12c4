"""The log of openings, filed by job: what is filed is what the rows say, and whatever is not is found."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from gateway.keyholder import log, pages, shelves
from ledger.errors import EnvelopeError, InvalidInput
from tests.keyholder.house import House, new_id
from tests.keyholder.test_log import opened, verify

__all__ = ["opened"]  # a fixture: three openings of two subjects of one job, and a result of it


@pytest.fixture(autouse=True)
def small_shelves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "SHELF", 2)


@pytest.fixture
def filed(opened: House) -> House:
    """Two full shelves."""
    assert opened.service.file_openings() == 0
    return opened


def reference_of(house: House) -> str:
    with house.store.transaction() as db:
        ((line,),) = db.execute("SELECT line FROM openings WHERE id = 1")
    return str(orjson.loads(line)["reference"])


def read(house: House, *references: str) -> list[Any]:
    """Every opening of these, as it goes over the wire."""
    found, asked, after = [], [*references], 0
    while asked:
        answer = orjson.loads(orjson.dumps(house.service.filed_openings(references=asked, after=after)))
        found += [one for file in answer["files"] for one in file["openings"]]
        following = answer["next"]
        asked = asked[asked.index(following["reference"]) :] if following else []
        after = following["shelf"] if following else 0
    return found


def by_rows(house: House) -> list[Any]:
    """The same, row by row."""
    found = []
    with house.store.transaction() as db:
        for (line,) in db.execute("SELECT line FROM openings ORDER BY id"):
            entry = orjson.loads(line)
            found += [(entry["subjects"][0], entry["ground"], one) for one in entry["opened"]]
    return found


def flat(openings: list[Any]) -> list[Any]:
    return [(subject, ground, one) for subject, ground, opened in openings for one in opened]


@pytest.mark.parametrize("shelves_filed", [0, 1, 2])
def test_what_is_filed_and_what_is_not_yet_are_told_together(
    opened: House, monkeypatch: pytest.MonkeyPatch, shelves_filed: int
) -> None:
    monkeypatch.setattr(shelves, "SHELVES_AT_ONCE", 1)
    for left in (1, 0)[:shelves_filed]:
        assert opened.service.file_openings() == left
    told = flat(read(opened, reference_of(opened)))
    assert set(told) == set(by_rows(opened))
    assert read(opened, new_id()) == []


@pytest.mark.parametrize("shelves_filed", [1, 2])
def test_an_answer_is_cut_and_goes_on(
    opened: House, monkeypatch: pytest.MonkeyPatch, shelves_filed: int
) -> None:
    monkeypatch.setattr(shelves, "SHELVES_AT_ONCE", shelves_filed)
    opened.service.file_openings()
    whole = read(opened, new_id(), reference_of(opened), new_id())
    monkeypatch.setattr(shelves, "ANSWER_BYTES", 1)
    assert read(opened, new_id(), reference_of(opened), new_id()) == whole
    assert len(opened.service.filed_openings(references=[reference_of(opened)], after=0)["files"]) == 1
    with pytest.raises(InvalidInput):
        opened.service.filed_openings(references=[new_id()] * (shelves.MOST_REFERENCES + 1), after=0)


def test_what_is_filed_holds(filed: House, capsys: pytest.CaptureFixture[str]) -> None:
    assert filed.service.check_files(after=0) == {"bad": None, "last": 2, "more": False}
    assert verify(filed) == 0
    assert "2 shelves are filed as their rows say." in capsys.readouterr().out


def edited_file(db: Any) -> None:
    db.execute("UPDATE filed SET openings = CAST(replace(openings, '/1', '/2') AS BLOB) WHERE shelf = 1")


def removed_file(db: Any) -> None:
    db.execute("DELETE FROM filed WHERE shelf = 1")


def file_of_another_shelf(db: Any) -> None:
    db.execute("UPDATE filed SET (openings, mac) = (SELECT openings, mac FROM filed WHERE shelf = 2)")


def file_put_in(db: Any) -> None:
    db.execute("INSERT INTO filed SELECT shelf, ?, openings, mac FROM filed WHERE shelf = 1", ("ab" * 32,))


def forgotten_shelf(db: Any) -> None:
    db.execute("DELETE FROM shelves WHERE shelf = 1")


def edited_row(db: Any) -> None:
    db.execute("UPDATE openings SET line = CAST(replace(line, '/1', '/2') AS BLOB) WHERE id = 1")


CHANGES = [edited_file, removed_file, file_of_another_shelf, file_put_in, forgotten_shelf, edited_row]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_differs_is_found(
    filed: House, capsys: pytest.CaptureFixture[str], change: Callable[[Any], None]
) -> None:
    with filed.store.transaction() as db:
        change(db)
    assert filed.service.check_files(after=0)["bad"] == 1
    assert verify(filed) == 1
    assert "differ" in (told := capsys.readouterr().err) or "log_tampered" in told


@pytest.mark.parametrize("change", [edited_file, file_of_another_shelf, file_put_in])
def test_a_file_that_was_changed_is_not_told(filed: House, change: Callable[[Any], None]) -> None:
    """Nobody can make one without the KEK."""
    reference = reference_of(filed)
    with filed.store.transaction() as db:
        change(db)
    with pytest.raises(EnvelopeError) as refusal:
        read(filed, reference, "ab" * 32)
    assert refusal.value.code == "log_tampered"


def test_a_bad_row_is_not_filed(opened: House) -> None:
    """Nor is anything after it, and what is not filed is told by no answer."""
    with opened.store.transaction() as db:
        db.execute("UPDATE openings SET line = CAST(replace(line, '/1', '/2') AS BLOB) WHERE id = 3")
    for act in (opened.service.file_openings, lambda: read(opened, reference_of(opened))):
        with pytest.raises(EnvelopeError) as refusal:
            act()
        assert refusal.value.code == "log_tampered"
    assert opened.service.check_files(after=0) == {"bad": None, "last": 1, "more": False}


def test_a_log_that_was_put_back_is_noticed(filed: House) -> None:
    with filed.store.transaction() as db:
        db.execute("DELETE FROM openings WHERE id = 4")
    with pytest.raises(EnvelopeError):
        filed.service.file_openings()
    with pytest.raises(EnvelopeError):
        read(filed, reference_of(filed))


def test_a_store_of_before_gets_its_files(filed: House) -> None:
    before = read(filed, reference_of(filed))
    with filed.store.transaction() as db:
        db.execute("DROP TABLE filed")
        db.execute("DROP TABLE shelves")
    filed.store.close()
    assert log.main([str(filed.home / "keyholder"), "--ledger", f"embedded://{filed.home / 'ledger'}"]) == 0
    filed.start_keyholder()
    assert filed.service.file_openings() == 0
    assert read(filed, reference_of(filed)) == before


def test_each_file_is_found_by_an_index(filed: House) -> None:
    with filed.store.transaction() as db:
        for query, values in ((shelves._FILES, ("a", 0)), (pages._OF_PLACE, ("a", None))):
            assert "USING INDEX" in str(db.execute(f"EXPLAIN QUERY PLAN {query}", values).fetchall())
