"""What clinicians say of one record passes to those that follow from it, and no longer when they lift it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consent.models import Patient
from gateway.keyholder.client import Keyholder
from gateway.labels.rules import ACT_CODE, LOINC, SNOMED, VERSION
from gateway.records import clinical_labels, keeping, relabelling, settling
from gateway.records import ingest as ingesting
from gateway.records.ingest import ingest
from gateway.records.keeping import confirm_pending
from gateway.records.models import IngestedFile, LabelChange, Regrouping, ResourceVersion, ToPassOn, Unsettled
from ledger.audit.models import AuditRow
from ledger.errors import EnvelopeError, KeyholderUnavailable, RefusedTransition
from tests.records.conftest import observation, patient
from tests.records.test_ingest import opened
from tests.records.test_relabelling import by_type, concept
from tests.records.test_updates import deletion

Write = Callable[..., Path]
pytestmark = pytest.mark.django_db

PLAIN, DEPRESSION = "44054006", "35489007"  # diabetes, which no rule speaks of; and one that a rule does
WITHHELD = ["R", "unlabelled"]


def condition(id: str, of: str, code: str = PLAIN) -> dict[str, Any]:
    clinical = concept("http://terminology.hl7.org/CodeSystem/condition-clinical", "active")
    return {
        "resourceType": "Condition",
        "id": id,
        "clinicalStatus": clinical,
        "code": concept(SNOMED, code),
        "subject": {"reference": f"Patient/{of}"},
    }


def encounter(id: str, of: str, *about: str) -> dict[str, Any]:
    diagnosis = {"diagnosis": [{"condition": {"reference": one}} for one in about]} if about else {}
    return {
        "resourceType": "Encounter",
        "id": id,
        "status": "finished",
        "class": {"system": ACT_CODE, "code": "AMB"},
        "subject": {"reference": f"Patient/{of}"},
        **diagnosis,
    }


def panel(id: str, of: str, *members: str) -> dict[str, Any]:
    return observation(
        id,
        f"Patient/{of}",
        code=concept(LOINC, "24331-1"),
        hasMember=[{"reference": one} for one in members],
    )


def report(id: str, of: str, *results: str) -> dict[str, Any]:
    return {
        "resourceType": "DiagnosticReport",
        "id": id,
        "status": "final",
        "code": concept(LOINC, "24331-1"),
        "subject": {"reference": f"Patient/{of}"},
        "result": [{"reference": one} for one in results],
    }


@pytest.fixture
def whose(write: Write, keyholder: Keyholder, alice_id: str) -> str:
    """Alice: two conditions and an encounter for each, and one for both of another's; all of it plain."""
    a = alice_id
    found = ingest(
        [
            write(
                "first.ndjson",
                patient(a),
                condition(f"c1-{a}", a),
                condition(f"c2-{a}", a),
                encounter(f"e1-{a}", a, f"Condition/c1-{a}"),
                encounter(f"e2-{a}", a, f"Condition/c2-{a}"),
                encounter(f"e0-{a}", a),
            )
        ]
    )
    assert found.refused == []
    return Patient.objects.get(record_id=a).pk


@pytest.fixture
def say(whose: str, keyholder: Keyholder, django_user_model: Any) -> Callable[..., LabelChange]:
    """A clinician says it; lifting, another agrees."""
    bob, erik = (
        django_user_model.objects.create_user(username=one, email=f"{one}@example.org")
        for one in ("bob", "erik")
    )

    def said(act: str, resource: str, label: str = "SDV") -> LabelChange:
        change = clinical_labels.ask(
            patient=Patient.objects.get(pk=whose),
            resource=resource,
            act=act,
            label=label,
            reason="She said so.",
            by=bob,
            keyholder=keyholder,
        )
        if act == "lift":
            clinical_labels.agree(change=change, by=erik)
        return change

    return said


def counts(keyholder: Keyholder, whose: str, kind: str) -> dict[tuple[str, ...], int]:
    found = keyholder.index(patient=whose)
    return {tuple(one["labels"]): one["count"] for one in found if one["resource_type"] == kind}


def assert_nothing_is_left() -> None:
    assert not ToPassOn.objects.exists()
    assert set(ResourceVersion.objects.values_list("rules", flat=True)) == {VERSION}


def test_a_label_passes_to_what_follows_and_to_nothing_else(
    say: Any, keyholder: Keyholder, whose: str, alice_id: str
) -> None:
    before = {raw for raw, _ in opened(keyholder, whose)}
    say("add", f"Condition/c1-{alice_id}")
    # At once: the chunk carries it, and what may follow from it is withheld.
    assert by_type(keyholder, whose)["Condition"] == [["R", "SDV"]]
    assert by_type(keyholder, whose)["Encounter"] == [WITHHELD]
    assert by_type(keyholder, whose)["Patient"] == [["N"]]
    confirm_pending(keyholder)
    for kind in ("Condition", "Encounter"):
        plain = 1 if kind == "Condition" else 2
        assert counts(keyholder, whose, kind) == {("N",): plain, ("R", "SDV"): 1}
    assert_nothing_is_left()
    after = [raw for raw, _ in opened(keyholder, whose)]
    assert (len(after), set(after)) == (len(before), before)
    acts = set(Regrouping.objects.values_list("pk", flat=True))
    assert AuditRow.objects.filter(kind="records.relabelled").count() == len(acts) - 1 == 1


def test_it_passes_on_from_one_to_the_next_and_all_the_way_back(
    say: Any, write: Write, keyholder: Keyholder, whose: str, alice_id: str
) -> None:
    a = alice_id
    ingest(
        [
            write(
                "panel.ndjson",
                observation(f"o-{a}", f"Patient/{a}"),
                panel(f"p-{a}", a, f"Observation/o-{a}"),
                report(f"r-{a}", a, f"Observation/p-{a}"),
            )
        ]
    )
    say("add", f"Observation/o-{a}")
    confirm_pending(keyholder)
    assert counts(keyholder, whose, "Observation") == {("R", "SDV"): 2}
    assert counts(keyholder, whose, "DiagnosticReport") == {("R", "SDV"): 1}
    say("lift", f"Observation/o-{a}")
    confirm_pending(keyholder)
    assert counts(keyholder, whose, "Observation") == {("N",): 2}
    assert counts(keyholder, whose, "DiagnosticReport") == {("N",): 1}
    assert_nothing_is_left()


def test_lifting_takes_nothing_that_has_a_basis_of_its_own(
    say: Any, write: Write, keyholder: Keyholder, whose: str, alice_id: str
) -> None:
    """Of four encounters: by a rule's label of another condition, by a clinician's word, by what the source
    says, and one that has nothing but what was passed to it."""
    a = alice_id
    others = [
        condition(f"c3-{a}", a, DEPRESSION),
        encounter(f"e3-{a}", a, f"Condition/c1-{a}", f"Condition/c3-{a}"),
        {
            **encounter(f"e4-{a}", a, f"Condition/c1-{a}"),
            "meta": {"security": [{"system": ACT_CODE, "code": "HIV"}]},
        },
        encounter(f"e5-{a}", a, f"Condition/c1-{a}"),
    ]
    ingest([write("others.ndjson", *others)])
    say("add", f"Condition/c1-{a}", "PSY")
    say("add", f"Encounter/e5-{a}", "PSY")
    confirm_pending(keyholder)
    assert counts(keyholder, whose, "Encounter") == {("N",): 2, ("PSY", "R"): 3, ("HIV", "PSY", "R"): 1}
    say("lift", f"Condition/c1-{a}", "PSY")
    confirm_pending(keyholder)
    assert counts(keyholder, whose, "Encounter") == {("N",): 3, ("PSY", "R"): 2, ("HIV", "R"): 1}
    assert_nothing_is_left()


def test_what_comes_later_takes_it_and_is_not_selected_before(
    say: Any,
    write: Write,
    keyholder: Keyholder,
    whose: str,
    alice_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where the ingest dies between selecting and labelling, and the relay goes on."""
    say("add", f"Condition/c1-{alice_id}")
    confirm_pending(keyholder)

    def dies(*_: Any, **__: Any) -> None:
        raise KeyholderUnavailable("It is away.")

    later = encounter(f"e9-{alice_id}", alice_id, f"Condition/c1-{alice_id}")
    with monkeypatch.context() as patch:
        patch.setattr(Keyholder, "relabel", dies)
        ingest([write("later.ndjson", later)])
    # The encounter that nothing is known to follow stands in a chunk of theirs.
    assert all("unlabelled" in one for one in counts(keyholder, whose, "Encounter"))
    confirm_pending(keyholder)
    assert counts(keyholder, whose, "Encounter") == {("N",): 2, ("R", "SDV"): 2}
    ingest([write("last.ndjson", encounter(f"e10-{alice_id}", alice_id, f"Condition/c1-{alice_id}"))])
    assert counts(keyholder, whose, "Encounter") == {("N",): 2, ("R", "SDV"): 3}
    assert_nothing_is_left()


@pytest.mark.parametrize("lost", ["survey", "relabel", "replace_chunks"])
def test_killed_on_the_way_it_goes_on_and_withholds_meanwhile(
    lost: str, say: Any, keyholder: Keyholder, whose: str, alice_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    say("add", f"Condition/c1-{alice_id}")

    def away(*_: Any, **__: Any) -> None:
        raise KeyholderUnavailable("It is away.")

    with monkeypatch.context() as patch:
        patch.setattr(Keyholder, lost, away)
        with pytest.raises(KeyholderUnavailable):
            confirm_pending(keyholder)
    assert by_type(keyholder, whose)["Encounter"] == [WITHHELD]
    confirm_pending(keyholder)
    assert counts(keyholder, whose, "Encounter") == {("N",): 2, ("R", "SDV"): 1}
    assert_nothing_is_left()


def test_what_cannot_be_labelled_stays_withheld_for_relabel(
    say: Any, keyholder: Keyholder, whose: str, alice_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    say("add", f"Condition/c1-{alice_id}")

    def spoiled(*_: Any, **__: Any) -> None:
        raise EnvelopeError("It was tampered with.", code="envelope")

    with monkeypatch.context() as patch:
        patch.setattr(Keyholder, "relabel", spoiled)
        confirm_pending(keyholder)
    assert by_type(keyholder, whose)["Encounter"] == [WITHHELD]
    assert not ToPassOn.objects.exists()  # the relay does not try it again and again
    assert relabelling.relabel(keyholder).failed == 0
    assert counts(keyholder, whose, "Encounter") == {("N",): 2, ("R", "SDV"): 1}


def once(monkeypatch: pytest.MonkeyPatch, method: str, meanwhile: Callable[[], object]) -> None:
    """With the keyholder's next answer of this kind something else happens, before it is read."""
    real = getattr(Keyholder, method)

    def answered(self: Keyholder, **said: Any) -> Any:
        found = real(self, **said)
        monkeypatch.setattr(Keyholder, method, real)
        meanwhile()
        return found

    monkeypatch.setattr(Keyholder, method, answered)


@pytest.mark.parametrize("method", ["regroup", "relabel"])
def test_a_word_in_the_middle_of_a_regrouping_counts_at_once(
    method: str,
    say: Any,
    write: Write,
    keyholder: Keyholder,
    whose: str,
    alice_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The chunks that were sealed before it came are not selected: they know nothing of it."""
    a = alice_id
    if method == "relabel":
        say("add", f"Encounter/e0-{a}", "HIV")
        say("add", f"Condition/c2-{a}", "HIV")
        once(monkeypatch, method, lambda: say("add", f"Encounter/e0-{a}"))
        confirm_pending(keyholder)
        assert all("SDV" in one or "unlabelled" in one for one in counts(keyholder, whose, "Encounter"))
        confirm_pending(keyholder)
        encounters = {("N",): 1, ("HIV", "R"): 1, ("HIV", "R", "SDV"): 1}
    else:
        once(monkeypatch, method, lambda: say("add", f"Condition/c1-{a}"))
        ingest([write("newer.ndjson", condition(f"c2-{a}", a, "73211009"))])
        assert by_type(keyholder, whose)["Condition"] == [["R", "SDV"]]
        assert by_type(keyholder, whose)["Encounter"] == [WITHHELD]
        confirm_pending(keyholder)
        assert counts(keyholder, whose, "Condition") == {("N",): 1, ("R", "SDV"): 1}
        encounters = {("N",): 2, ("R", "SDV"): 1}
    confirm_pending(keyholder)
    assert counts(keyholder, whose, "Encounter") == encounters
    assert not LabelChange.objects.exclude(state=LabelChange.State.DONE).exists()
    assert_nothing_is_left()


def test_a_word_that_is_carried_out_in_the_middle_of_a_regrouping_is_not_undone(
    say: Any,
    keyholder: Keyholder,
    whose: str,
    alice_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another process carried it out as far as what follows is withheld; what was sealed before knows of
    neither, and is not selected."""
    name = keyholder.resource_name(resource=f"Encounter/e0-{alice_id}")
    rows = ResourceVersion.objects.filter(name=name)
    rows.update(rules="2020.1")
    labelled = {rows.get().digest: (["HIV", "R"], ["a test"], name, [])}

    def away(*_: Any, **__: Any) -> None:
        raise KeyholderUnavailable("It is away.")

    def meanwhile() -> None:
        say("add", f"Condition/c1-{alice_id}")
        with monkeypatch.context() as patch:
            patch.setattr(Keyholder, "relabel", away)
            with pytest.raises(KeyholderUnavailable):
                confirm_pending(keyholder)
        assert LabelChange.objects.get().state == LabelChange.State.DONE

    once(monkeypatch, "regroup", meanwhile)
    with pytest.raises(settling.Conflict):
        settling.settle(whose, keyholder=keyholder, labelled=labelled)
    assert by_type(keyholder, whose)["Encounter"] == [WITHHELD]
    confirm_pending(keyholder)
    assert counts(keyholder, whose, "Encounter") == {("N",): 2, ("R", "SDV"): 1}
    assert_nothing_is_left()


def test_what_comes_in_the_middle_of_a_regrouping_waits_for_its_own(
    say: Any,
    write: Write,
    keyholder: Keyholder,
    whose: str,
    alice_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its ingest dies once it is kept. Neither is it selected unlabelled, nor is it forgotten."""
    a = alice_id
    say("add", f"Condition/c1-{a}")
    confirm_pending(keyholder)

    def dies(*_: Any) -> None:
        raise KeyholderUnavailable("It is away.")

    def meanwhile() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(keeping, "_settle", dies)
            later = [
                encounter(f"e9-{a}", a, f"Condition/c1-{a}"),
                condition(f"c2-{a}", a, "38341003"),
            ]
            ingest([write("later.ndjson", *later)])

    once(monkeypatch, "regroup", meanwhile)
    ingest([write("deleted.ndjson", deletion(f"Encounter/e0-{a}"))])
    assert Unsettled.objects.filter(pk=whose).exists()
    assert counts(keyholder, whose, "Encounter") == {("N",): 1, ("R", "SDV"): 1}
    assert sum(counts(keyholder, whose, "Condition").values()) == 2
    confirm_pending(keyholder)
    assert counts(keyholder, whose, "Encounter") == {("N",): 1, ("R", "SDV"): 2}
    assert counts(keyholder, whose, "Condition") == {("N",): 1, ("R", "SDV"): 1}
    assert not Unsettled.objects.exists()
    assert_nothing_is_left()


def test_a_word_that_nothing_else_says_is_due_is_carried_out(
    say: Any, keyholder: Keyholder, whose: str, alice_id: str
) -> None:
    say("add", f"Condition/c1-{alice_id}")
    Unsettled.objects.all().delete()
    confirm_pending(keyholder)
    assert counts(keyholder, whose, "Encounter") == {("N",): 2, ("R", "SDV"): 1}
    assert_nothing_is_left()


@pytest.mark.parametrize("dies", [False, True])
def test_a_word_that_comes_while_a_file_is_kept_passes_to_its_records(
    dies: bool,
    say: Any,
    write: Write,
    keyholder: Keyholder,
    whose: str,
    alice_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is there when the file's transaction ends, and was not when that looked for it; also where the
    ingest dies then, and the relay goes on."""
    say("add", f"Condition/c1-{alice_id}")
    confirm_pending(keyholder)
    before = counts(keyholder, whose, "Encounter")

    def lost(*_: Any) -> None:
        raise KeyholderUnavailable("It is away.")

    later = encounter(f"e9-{alice_id}", alice_id, f"Condition/c1-{alice_id}")
    with monkeypatch.context() as patch:
        patch.setattr(keeping, "_note_passing_on", lambda *_: None)
        if dies:
            patch.setattr(keeping, "_settle", lost)
        ingest([write("later.ndjson", later)])
    if dies:
        confirm_pending(keyholder)
        assert counts(keyholder, whose, "Encounter") == before
        confirm_pending(keyholder)
    assert counts(keyholder, whose, "Encounter") == {("N",): 2, ("R", "SDV"): 2}
    assert_nothing_is_left()


def test_a_file_that_comes_again_releases_nothing_that_is_withheld(
    say: Any,
    keyholder: Keyholder,
    whose: str,
    alice_id: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under newer rules, and the word came after the file was read: its reader knew nothing of it."""
    ResourceVersion.objects.update(rules="2020.1")
    IngestedFile.objects.update(rules="2020.1")
    real = ingesting.keep

    def kept(*args: Any, **more: Any) -> None:
        say("add", f"Condition/c1-{alice_id}")
        real(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(ingesting, "keep", kept)
        (report,) = ingest([tmp_path / "first.ndjson"]).files
    assert (report.state, report.labelled) == ("taken", 6)
    assert by_type(keyholder, whose)["Condition"] == [["N"], ["R", "SDV"]]
    # What follows nothing is labelled by the file; the rest waits for the keyholder.
    assert counts(keyholder, whose, "Encounter") == {("N",): 1, ("R", "unlabelled"): 2}
    confirm_pending(keyholder)
    assert counts(keyholder, whose, "Encounter") == {("N",): 2, ("R", "SDV"): 1}
    assert_nothing_is_left()


@pytest.mark.parametrize("chunks", ["unknown", "spoiled"])
def test_what_cannot_be_withheld_stays_due_and_nothing_new_is_selected(
    chunks: str,
    say: Any,
    write: Write,
    keyholder: Keyholder,
    whose: str,
    alice_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever is the matter with one chunk: the duty to withhold is not dropped with it."""
    say("add", f"Condition/c1-{alice_id}")
    confirm_pending(keyholder)
    before = counts(keyholder, whose, "Encounter")

    def refused(*_: Any, **__: Any) -> None:
        if chunks == "unknown":
            raise RefusedTransition("It is not known.", code="chunk_unknown")
        raise EnvelopeError("It was tampered with.", code="envelope")

    later = encounter(f"e9-{alice_id}", alice_id, f"Condition/c1-{alice_id}")
    with monkeypatch.context() as patch:
        patch.setattr(Keyholder, "survey", refused)
        ingest([write("later.ndjson", later)])
        for _ in range(3):
            confirm_pending(keyholder)
            assert counts(keyholder, whose, "Encounter") == before
        assert ToPassOn.objects.filter(pk=whose).exists()
    confirm_pending(keyholder)
    assert counts(keyholder, whose, "Encounter") == {("N",): 2, ("R", "SDV"): 2}
    assert_nothing_is_left()


def test_a_label_on_what_nothing_follows_opens_nothing(
    say: Any, keyholder: Keyholder, whose: str, alice_id: str
) -> None:
    say("add", f"Encounter/e1-{alice_id}")
    assert by_type(keyholder, whose)["Condition"] == [["N"]]
    confirm_pending(keyholder)
    assert counts(keyholder, whose, "Encounter") == {("N",): 2, ("R", "SDV"): 1}
    assert not AuditRow.objects.filter(kind="records.relabelled").exists()
    assert_nothing_is_left()
