"""A model that summarises a cohort: what it tells, and that nobody can be told from it."""

import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout
from datetime import timedelta
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone
from fhir.resources.R4B.measurereport import MeasureReport

from consent import cohorts
from consent.models import Cohort, Consent
from gateway.accounts import clients
from gateway.analysis import services
from gateway.analysis.catalogue import MODELS, find
from gateway.analysis.catalogue.summary import FEWEST, PooledCohortSummary, at_least
from gateway.analysis.catalogue.summary import Summary as SummaryModel
from gateway.analysis.models import AIModel, Job, Output, Summary
from gateway.analysis.part import Part
from gateway.compliance import trace
from gateway.compliance.reconcile import _of_summaries
from gateway.keyholder.doors import FEWEST_IN_AGGREGATE, SUMMARISING
from gateway.keyholder.envelope import new_part_key
from gateway.records.models import Chunk
from ledger.audit.log import Actor
from ledger.audit.models import AuditRow
from ledger.client import HOME
from ledger.errors import AccessDenied, InvalidInput, KeyholderUnavailable, RefusedTransition
from tests.analysis.test_cohort_job import StopsOnTheWay, a_cohort, submit
from tests.analysis.test_job_end_to_end import KINDS, PCE, Play, lapse, play
from tests.questions import cohort_question

__all__ = ["play"]  # a fixture

CLIENT = Path(__file__).resolve().parents[2] / "deploy" / "client"
MODEL = PooledCohortSummary()
State = Job.State


# What it tells


def spread(*values: str, without: int = 0) -> Any:
    return MODEL.summarise([*map(Decimal, values), *[None] * without])


def test_no_summary_is_smaller_than_the_keyholder_lets_out() -> None:
    assert FEWEST == FEWEST_IN_AGGREGATE


def test_the_keyholder_knows_every_model_that_summarises() -> None:
    digests = {model.digest() for model in MODELS if isinstance(model, SummaryModel)}
    assert digests
    assert digests <= SUMMARISING, "Add the digest to SUMMARISING of gateway/keyholder/doors.py."


@pytest.mark.parametrize("number", range(0, 40))
def test_a_count_is_a_lower_bound_and_few_are_none(number: int) -> None:
    found = at_least(number)
    assert found <= number < found + FEWEST
    assert found % FEWEST == 0
    assert (found == 0) == (number < FEWEST)


def test_bands_have_their_edges_and_hide_who_is_few() -> None:
    values = ["4.99"] * 11 + ["5"] * 12 + ["7.49"] * 10 + ["7.5"] * 21 + ["20"] * 10
    found = spread(*values, without=3)
    assert found.bands == (11, 22, 11, 0)
    assert (found.people, found.scored) == (66, 55)
    assert found.mean is None


def test_no_mean_tells_of_one_person() -> None:
    """Of too few there is none; where there is one, whoever comes or goes moves it by one at most."""
    assert spread(*["30"] * 99, without=20).mean is None
    many = ["8.55"] * 100
    assert spread(*many).mean == Decimal(9)
    for one in ("0", "100"):
        assert abs(spread(*many, one).mean - Decimal(9)) <= 1


def test_it_is_a_model_of_the_catalogue_with_a_digest_of_its_own() -> None:
    assert find("pce-cohort").digest() == MODEL.digest() != PCE.digest()
    assert MODEL.reads == PCE.reads
    assert MODEL.describe()["bands"][0].startswith("low")
    inputs = {"age": 56, "sex": "female", "race": "white", "total_cholesterol": 213, "hdl_cholesterol": 50,
              "systolic_bp": 120, "bp_treated": False, "diabetes": False, "smoker": False}  # fmt: skip
    assert MODEL.score(inputs) == PCE.score(inputs)


def test_the_command_tells_of_all_lines_together(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    line = {"age": 56, "sex": "female", "race": "white", "total_cholesterol": 213, "hdl_cholesterol": 50,
            "systolic_bp": 120, "bp_treated": False, "diabetes": False, "smoker": False}  # fmt: skip
    lines = "\n".join([json.dumps(line)] * 101 + ["{}"])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    call_command("score", "pce-cohort")
    (told,) = capsys.readouterr().out.splitlines()
    found = json.loads(told)
    assert (found["people"], found["scored"], found["mean"], found["unit"]) == (99, 99, 2.0, "%")
    assert list(found["bands"].values()) == [99, 0, 0, 0]


def test_a_child_seals_no_summary_of_few_nor_of_others_than_it_saw() -> None:
    child = Part([])
    where = {"job": "ab" * 32, "attempt": 1, "part": 0, "index_date": "2026-01-01"}
    child.start({"model": MODEL.digest(), "output_key": new_part_key()[1].hex(), **where})
    child.scores = {f"{number:064x}": Decimal(number) for number in range(FEWEST)}
    seen = list(child.scores)
    for wrong in (seen[:-1], [*seen, "f" * 64], []):
        assert child.answer({"summarise": {"subjects": wrong}}) == {"error": "child_no_summary"}
    assert child.answer({"summarise": {"subjects": seen}}).keys() == {"sealed_b64"}
    del child.scores[seen.pop()]
    assert child.answer({"summarise": {"subjects": seen}}) == {"error": "child_no_summary"}


# A real worker


@pytest.fixture
def summary_cohort(play: Play, user: Any) -> Callable[[int], Cohort]:
    def made(number: int) -> Cohort:
        play.model = MODEL
        register(play)
        return a_cohort(play, user, number, model=MODEL.digest())

    return made


def register(play: Play) -> None:
    row = services.register_model(model=MODEL, provider=play.helix, by=Actor.system("command"))
    play.settle()
    AIModel.objects.filter(pk=row.pk).update(state=AIModel.State.APPROVED, pending_on=[])


def read(play: Play, job: Job) -> dict[str, Any]:
    (digest,) = services.client_view(job)["summaries"]
    told = services.summary(job=job, digest=digest, requester=play.helix, keyholder=play.keyholder)
    found: dict[str, Any] = json.loads(told)
    return found


def people(bundle: dict[str, Any]) -> list[int]:
    (group,) = bundle["entry"][0]["resource"]["group"]
    return [one["count"] for one in group["population"]]


def download(url: str, play: Play, job: Job, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `consentctl --json jobs download` says of it."""
    monkeypatch.syspath_prepend(CLIENT)
    cli, keys = (import_module(f"consentctl.{name}") for name in ("cli", "keys"))
    key = keys.Key.new()
    key.write(folder / "key.jwk")
    client = clients.register(requester=play.helix, by=Actor.staff(1), jwks=key.public_set())
    monkeypatch.setattr(cli, "PROFILE", folder / "profile.json")
    said = io.StringIO()
    with redirect_stdout(said):
        login = ["login", url, "--client", client.application.client_id, "--key", str(folder / "key.jwk")]
        assert cli.main(login) == 0
        assert cli.main(["--json", "jobs", "download", job.pk, str(folder / "had")]) == 0
    told: dict[str, Any] = json.loads(said.getvalue())
    return told


@pytest.mark.django_db(transaction=True)
def test_one_result_leaves_of_all_and_closes_when_one_stops(
    play: Play,
    summary_cohort: Callable[[int], Cohort],
    live_server: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cohort = summary_cohort(13)
    job = play.run(submit(play, cohort))
    assert (job.state, job.kind, job.error_code) == (State.DONE, "summary", "")
    assert not Output.objects.exists()
    view = services.client_view(job)
    assert (view["subjects"], len(view["doors"])) == ([], 1)
    found = read(play, job)
    report, provenance = (one["resource"] for one in found["entry"])
    MeasureReport.model_validate(report)
    assert provenance["target"] == [{"reference": f"MeasureReport/{report['id']}"}]
    assert people(found) == [11, 11]
    (stratifier,) = report["group"][0]["stratifier"]
    assert [one["population"][0]["count"] for one in stratifier["stratum"]] == [11, 0, 0, 0]
    told = download(live_server.url, play, job, tmp_path, monkeypatch)
    assert told == {"results": 0, "proofs": 0, "summaries": 1}
    (file,) = (tmp_path / "had" / "summaries").iterdir()
    assert (file.stem, json.loads(file.read_bytes())) == (view["summaries"][0], found)
    # Nobody's name stands in it, and each of them sees that it was made and read.
    for subject in job.subjects.all():
        assert subject.pk not in json.dumps(found)
        kinds = AuditRow.objects.filter(step_of=subject.pk).values_list("kind", flat=True)
        assert {"job.delivered", "result.read"} <= set(kinds)
    # The ledger and the database say the same of it, and tell where they would not.
    assert list(_of_summaries(play.ledger, HOME, None)) == []
    for change, code in (({"digest": "0" * 64}, "delivery_differs"), ({"sealed": b"x"}, "output_differs")):
        kept = Summary.objects.values(*change).get()
        Summary.objects.update(**change)
        assert code in {one.code for one in _of_summaries(play.ledger, HOME, None)}
        Summary.objects.update(**kept)
    play.stop(Consent.objects.select_related("patient")[0])
    with pytest.raises(AccessDenied):
        read(play, job)


@pytest.mark.django_db(transaction=True)
def test_a_trace_leads_to_it_and_back(play: Play, summary_cohort: Callable[[int], Cohort]) -> None:
    job = play.run(submit(play, summary_cohort(11)))
    read(play, job)
    made = Summary.objects.get()
    subjects = {one.pk: one for one in job.subjects.select_related("patient")}
    one = subjects[min(subjects)]
    assert one.patient is not None
    packet = Chunk.objects.filter(patient=one.patient).values_list("pk", flat=True)[0]
    for forwards in (trace.of_patient(one.patient, play.keyholder), trace.of_packet(packet, play.keyholder)):
        (use,) = forwards
        assert (use.key, use.kind, use.state) == (one.pk, "summary", "delivered")
        assert (use.output, use.delivered_at, use.read) == (made.digest, made.delivered_at, 1)
        assert packet in {record.partition("/")[0] for record in use.records}
    totals = trace.Totals()
    for back in (trace.of_job(job.pk, play.keyholder), trace.of_output(made.digest, play.keyholder)):
        found = {use.key: use for use in back}
        assert found.keys() == subjects.keys()
        assert {use.output for use in found.values()} == {made.digest}
        for use in found.values():
            totals.add(use)
    told = totals.as_json()
    assert (told["uses"], told["patients"], told["jobs"], told["results"]) == (22, 11, 1, 1)


@pytest.mark.django_db(transaction=True)
def test_who_stops_in_the_middle_is_not_in_it_and_the_others_are(
    play: Play, summary_cohort: Callable[[int], Cohort]
) -> None:
    """Stopped after her records were seen: the delivery of all fails, and it is begun anew without her."""
    cohort = summary_cohort(12)
    job = submit(play, cohort)
    first = job.subjects.get(number=0)
    stopped = Consent.objects.select_related("patient").get(patient=first.patient)
    play.run(job, keyholder=StopsOnTheWay(play, [stopped], after=6))
    assert job.state == State.QUEUED
    assert not Summary.objects.filter(delivered_at__isnull=False).exists()
    assert services.client_view(job)["summaries"] == []
    lapse(job)
    play.run(job)
    assert job.state == State.DONE
    assert [one.number for one in job.legs.get().attempts.order_by("number")] == [1, 2]
    first.refresh_from_db()
    assert (first.state, Summary.objects.count()) == ("not_available", 1)
    assert job.subjects.filter(state="delivered").count() == 11
    # What was opened of hers is told: nobody reads that she was refused, and a trace leads to it.
    kinds = AuditRow.objects.filter(step_of=first.pk).order_by("pk").values_list("kind", flat=True)
    assert list(kinds) == ["job.released", "job.stopped"]
    (use,) = trace.of_patient(stopped.patient, play.keyholder)
    assert (use.key, use.state, use.output, use.consent) == (first.pk, "not_available", "", stopped.pk)
    assert use.records
    assert people(read(play, job)) == [11, 11]


@pytest.mark.django_db(transaction=True)
def test_when_too_few_are_left_nothing_leaves(play: Play, summary_cohort: Callable[[int], Cohort]) -> None:
    cohort = summary_cohort(11)
    job = submit(play, cohort)
    stopped = [Consent.objects.select_related("patient")[0]]
    play.run(job, keyholder=StopsOnTheWay(play, stopped, after=1))
    while job.state not in Job.SETTLED:
        lapse(job)
        play.run(job)
    assert (job.state, Summary.objects.count()) == (State.STOPPED, 0)
    assert services.client_view(job)["summaries"] == []
    with pytest.raises(RefusedTransition) as error:
        submit(play, cohort)
    assert error.value.code == "too_few"


@pytest.mark.django_db(transaction=True)
def test_one_of_nearly_the_same_people_does_not_leave(
    play: Play, summary_cohort: Callable[[int], Cohort]
) -> None:
    """The same people on the same day, then all but one: the job ends as where too few are left."""
    cohort = summary_cohort(12)
    assert play.run(submit(play, cohort)).state == State.DONE
    for stopped in ([], [Consent.objects.select_related("patient")[0]]):
        for consent in stopped:
            play.stop(consent)
        job = play.run(submit(play, cohort))
        assert (job.state, job.error_code) == (State.STOPPED, "")
        assert not Summary.objects.filter(leg__job=job).exists()
        assert set(job.subjects.values_list("state", flat=True)) == {"not_available"}
        view = services.client_view(job)
        assert (view["state"], view["summaries"]) == ("done", [])


@pytest.mark.django_db(transaction=True)
def test_who_are_few_where_the_hospital_says_so_are_few_to_the_end(
    play: Play, summary_cohort: Callable[[int], Cohort], settings: Any
) -> None:
    cohort = summary_cohort(12)
    job = submit(play, cohort)
    settings.COHORT_FEWEST = 13
    assert play.run(job).state == State.STOPPED
    settings.COHORT_FEWEST = 11
    job = play.run(submit(play, cohort))
    assert len(services.client_view(job)["summaries"]) == 1
    settings.COHORT_FEWEST = 13
    assert services.client_view(job)["summaries"] == []


@pytest.mark.django_db(transaction=True)
def test_the_client_chooses_no_part_of_a_cohort_and_no_day(play: Play) -> None:
    play.model = MODEL
    register(play)
    question = cohort_question(MODEL.digest(), kinds=KINDS)
    cohort = cohorts.propose(requester=play.helix, question=question, wish="Everyone.")
    today = timezone.localdate()
    for chosen in ({"kinds": ["Observation"]}, {"given_since": today}, {"index_date": today - timedelta(1)}):
        with pytest.raises(InvalidInput) as error:
            submit(play, cohort, **chosen)
        assert error.value.code == "whole_cohort"
    with pytest.raises(RefusedTransition) as refused:
        submit(play, cohort, kinds=[], index_date=today)
    assert refused.value.code == "too_few"


@pytest.mark.django_db(transaction=True)
def test_a_delivery_that_was_begun_is_repeated(play: Play, summary_cohort: Callable[[int], Cohort]) -> None:
    cohort = summary_cohort(11)
    job = submit(play, cohort)

    class LosesTheAnswer(StopsOnTheWay):
        def deliver(self, **asked: Any) -> Any:
            play.keyholder.deliver(**asked)
            raise KeyholderUnavailable("The answer is lost.")

    play.run(job, keyholder=LosesTheAnswer(play, [], after=100))
    assert job.state == State.DELIVERING
    lapse(job)
    play.run(job)
    assert job.state == State.DONE
    assert job.legs.get().attempts.count() == 1
    assert people(read(play, job)) == [11, 11]


@pytest.mark.django_db(transaction=True)
def test_it_is_run_over_a_cohort_alone(play: Play) -> None:
    play.model = MODEL
    register(play)
    with pytest.raises(InvalidInput) as error:
        play.submit("ab" * 32)
    assert error.value.code == "cohort_only"
