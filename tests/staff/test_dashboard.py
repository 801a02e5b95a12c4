"""/staff/dashboard: what the numbers say, and what they do not give away."""

import csv
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from consent.models import Consent, random_id
from gateway.analysis.models import Job, JobSubject, Leg
from gateway.compliance.models import Alarm
from gateway.emergency.models import Emergency
from gateway.staff import figures
from gateway.staff.plots import NOTHING, WIDEST, Plot, Series, nice
from ledger.audit.incidents import PROOF_DIFFERS, open_incident, settle_incident
from ledger.audit.log import Actor
from ledger.models import LedgerTransaction
from tests.questions import ask

pytestmark = pytest.mark.django_db

Member = Callable[..., Client]


def say(question: Any, yes: int, no: int, stopped: int = 0) -> None:
    now = timezone.now()
    states = [("active", None)] * (yes - stopped) + [("inactive", now)] * stopped + [("rejected", None)] * no
    Consent.objects.bulk_create(
        Consent(
            request=question,
            patient=question.patient,
            status=status,
            fhir={},
            stopped_at=stop,
            revoked_at=stop and stop + timedelta(seconds=place),
        )
        for place, (status, stop) in enumerate(states)
    )


def use(model: Any, purpose: str, used: int, refused: int = 0) -> None:
    job = Job.objects.create(
        requester=model.provider, model=model.digest, purpose=purpose, index_date="2026-01-02", state="done"
    )
    leg = Leg.objects.create(job=job, state="done")
    JobSubject.objects.bulk_create(
        JobSubject(job=job, leg=leg, number=n, asked=random_id(), consent=random_id() if n < used else "")
        for n in range(used + refused)
    )


def last(figure: figures.Figure) -> dict[str, Any]:
    """The last row, which is this month or today."""
    return dict(figure.rows[-1][1])


def test_choices(helix: Any, alice: Any) -> None:
    say(ask(helix, alice), yes=20, no=7, stopped=6)
    assert last(figures.choices()) == {"Yes": 20, "No": 7, "Stopped": 6}
    assert {cell for _label, cells in figures.choices().rows[:-1] for _name, cell in cells} == {0}


def test_a_small_count_is_hidden_in_the_page_and_in_the_csv(member: Member, helix: Any, alice: Any) -> None:
    say(ask(helix, alice), yes=20, no=4)
    dana = member("compliance")
    answer = dana.get(reverse("staff_dashboard_csv", args=["choices"]))
    rows = list(csv.reader(io.StringIO(answer.content.decode())))
    assert rows[0] == ["", "Yes", "No", "Stopped"]
    assert rows[-1][1:] == ["20", "hidden", "0"]
    page = dana.get(reverse("staff_dashboard")).content.decode()
    assert "<td>20</td><td>hidden</td><td>0</td>" in page


def test_rare_purposes_are_put_together(model: Any) -> None:
    for purpose, used in (("TREAT", 30), ("HRESCH", 3), ("PUBHLTH", 9)):
        use(model, purpose, used)
    shown = {label: cells[0][1] for label, cells in figures.purposes().rows}
    assert shown == {"To care for the patient": 30, "Others": 12}


def test_the_blocked_rate_needs_both_its_counts(model: Any) -> None:
    use(model, "TREAT", 30, refused=10)
    assert last(figures.blocked()) == {"Blocked, in per cent": 25.0}
    JobSubject.objects.filter(consent="").delete()
    use(model, "TREAT", 0, refused=4)
    assert last(figures.blocked()) == {"Blocked, in per cent": None}


def test_from_a_stop_to_the_ledger(helix: Any, alice: Any) -> None:
    say(ask(helix, alice), yes=100, no=0, stopped=100)
    assert last(figures.stops()) == {"Half": 49.0, "95 of 100": 94.0, "99 of 100": 98.0}


def test_a_stop_that_was_on_the_ledger_at_once_counts(helix: Any, alice: Any) -> None:
    say(ask(helix, alice), yes=6, no=0, stopped=6)
    for stopped in Consent.objects.all():  # the ledger's times are whole seconds
        stopped.stopped_at = timezone.now().replace(microsecond=700_000)
        stopped.revoked_at = stopped.stopped_at.replace(microsecond=0)
        stopped.save()
    assert last(figures.stops()) == {"Half": 0.0, "95 of 100": 0.0, "99 of 100": 0.0}
    assert not figures.stops().plot.is_empty


def test_ledger_lag_and_what_waits(member: Member) -> None:
    now = timezone.now()
    rows = LedgerTransaction.objects.bulk_create(
        LedgerTransaction(name="Checkpoint", reference="x", state="committed") for _ in range(10)
    )
    for seconds, row in enumerate(rows, start=1):
        LedgerTransaction.objects.filter(pk=row.pk).update(
            created_at=now, settled_at=now + timedelta(seconds=seconds)
        )
    assert last(figures.lag()) == {"Half": 5.0, "95 of 100": 10.0, "99 of 100": 10.0}
    assert figures.unsettled() == (0, 0)
    LedgerTransaction.objects.create(name="Checkpoint", reference="y")
    LedgerTransaction.objects.filter(reference="y").update(created_at=now - timedelta(seconds=90))
    waiting, age = figures.unsettled()
    assert (waiting, age // 10) == (1, 9)
    page = member("compliance").get(reverse("staff_dashboard")).content.decode()
    assert "<dd>1\xa0minute</dd>" in page


def test_emergencies_in_time_and_late(alice: Any, bob: Any) -> None:
    now = timezone.now()
    due = now + timedelta(hours=72)
    Emergency.objects.bulk_create(
        Emergency(
            patient=alice,
            reason="ETREAT",
            opened_at=now,
            expires_at=now,
            review_by=due,
            reviewed_at=None if n >= 12 else due + timedelta(hours=1 if n >= 6 else -2),
        )
        for n in range(18)
    )
    assert last(figures.emergencies()) == {"Reviewed in time": 6, "Late or waiting": 12}
    assert last(figures.reviews()) == {"Half": 70.0, "95 of 100": 73.0}


def test_alarms_by_what_was_found(alice: Any, bob: Any) -> None:
    now, today = timezone.now(), timezone.localdate()
    outcomes = ["explained"] * 9 + ["misuse"] * 6 + [""] * 7
    Alarm.objects.bulk_create(
        Alarm(
            kind="night", by=bob, patient=alice, day=today - timedelta(days=n), seen_at=now, leaf=n,
            outcome=outcome, settled_at=now if outcome else None,
        )
        for n, outcome in enumerate(outcomes)
    )  # fmt: skip
    assert last(figures.alarms()) == {"Explained": 9, "Misuse": 6, "To judge": 7}


@pytest.mark.parametrize("role", ["clinician"])
def test_it_is_not_for_the_ward(member: Member, role: str) -> None:
    assert member(role).get(reverse("staff_dashboard")).status_code == 403


def test_an_unknown_plot_is_not_there(member: Member) -> None:
    assert member("auditor").get(reverse("staff_dashboard_csv", args=["people"])).status_code == 404


def test_as_many_queries_for_a_thousand_rows(member: Member, model: Any, helix: Any, alice: Any) -> None:
    dana, question = member("compliance"), ask(helix, alice)
    few = queries_of(dana)
    say(question, yes=800, no=200, stopped=400)
    use(model, "TREAT", 600, refused=400)
    assert queries_of(dana) == few <= 15


def queries_of(client: Client) -> int:
    client.get(reverse("staff_dashboard"))  # the session notes each minute that it is in use
    with CaptureQueriesContext(connection) as queries:
        assert client.get(reverse("staff_dashboard")).status_code == 200
    return len(queries)


# The drawing


def drawn(*values: float | None, name: str = "A & <b>") -> Plot:
    labels = [str(place) for place in range(len(values))]
    return Plot("p", "T <t>", "D", labels, [Series(name, values), Series("Two", values)])


@pytest.mark.parametrize("width", ["wide", "narrow"])
def test_a_drawing_is_well_formed_named_and_told_apart_by_pattern(width: str) -> None:
    svg = ET.fromstring(getattr(drawn(3, 0, None, 8.5), width))
    space = {"s": "http://www.w3.org/2000/svg"}
    names = {each.get("id"): each.text for each in svg.iterfind("*[@id]")}
    assert [names[each] for each in str(svg.get("aria-labelledby")).split()] == ["T <t>", "D"]
    fills = [each.get("fill") for each in svg.iterfind("s:rect", space)]
    assert len(set(fills)) == 2
    assert all(str(each).startswith("url(#p-") for each in fills)
    patterns = svg.findall(".//s:pattern", space)
    assert len({ET.tostring(each[-1]) for each in patterns}) == 2
    assert int(str(svg.get("font-size"))) >= 12
    assert not [each for each in svg.iter() if each.get("style") or each.tag.endswith("script")]


def test_no_bar_is_higher_than_the_axis_and_none_stands_for_a_hidden_number() -> None:
    svg = ET.fromstring(drawn(7, None, 100).wide)
    heights = [tall for _wide, tall in bars_of(svg)]
    assert len(heights) == 4
    assert max(heights) <= 240
    assert len(svg.findall("{*}circle")) == 2


@pytest.mark.parametrize(
    ("most", "end"), [(0, 1), (1, 1), (3, 4), (8.5, 10), (41, 50), (101, 200), (999, 1000)]
)
def test_the_axis_ends_at_a_round_number(most: float, end: float) -> None:
    assert nice(most) == end


def test_a_plot_of_nothing() -> None:
    assert ET.fromstring(Plot("p", "T", "D", [], []).narrow) is not None
    assert drawn(0, None, NOTHING).is_empty
    assert not drawn(0, 1).is_empty


def test_a_measured_zero_is_something() -> None:
    assert not drawn(0.0, NOTHING).is_empty
    assert len(bars_of(ET.fromstring(drawn(0.0, NOTHING).wide))) == 2


@pytest.mark.parametrize("width", ["wide", "narrow"])
def test_labels_do_not_run_into_each_other_and_the_last_is_there(width: str) -> None:
    months = [f"Month {number:02}" for number in range(12)]
    svg = ET.fromstring(getattr(Plot("p", "T", "D", months, [Series("S", [1] * 12)]), width))
    shown = [each for each in svg.iterfind("{*}text") if str(each.text).startswith("Month")]
    middles = [float(str(each.get("x"))) for each in shown]
    assert shown[-1].text == months[-1]
    assert min(after - before for before, after in pairwise(middles)) > 8 * 14 * 0.6
    assert middles[-1] + 8 * 14 * 0.3 <= float(str(svg.get("width")))


def test_a_bar_that_stands_alone_is_no_wider_than_another() -> None:
    assert max(wide for wide, _tall in bars_of(ET.fromstring(drawn(7).wide))) <= WIDEST


def bars_of(svg: ET.Element) -> list[tuple[float, float]]:
    """Width and height of each bar that stands."""
    paths = "".join(str(each.get("d")) for each in svg.iterfind("{*}path"))
    return [(float(wide), float(tall)) for tall, wide in re.findall(r"v-([\d.]+)h([\d.]+)v", paths)]


def test_a_year_of_bars_is_light() -> None:
    months = [f"Mon {number:02}" for number in range(12)]
    series = [Series(name, [40 + number for number in range(12)]) for name in ("Yes", "No", "Stopped")]
    plot = Plot("choices", "T", "D", months, series, "Choices")
    assert len(plot.wide) + len(plot.narrow) < 6_500


@pytest.mark.parametrize("width", ["wide", "narrow"])
def test_named_things_lie_below_their_names_and_fit(width: str) -> None:
    names = ["To care for you", "A very long purpose of use", "Others"]
    svg = ET.fromstring(
        getattr(Plot("p", "T", "D", names, [Series("Uses", [20_000, 41, None])], lying=True), width)
    )
    assert [each.text for each in svg.iterfind("{*}text")] == [names[0], "20k", names[1], "41", names[2], "·"]
    bars = [float(str(each.get("width"))) for each in svg.iterfind("{*}rect")]
    assert bars[0] > bars[1] > bars[2] == 0
    assert bars[0] + 8 + 3 * 14 * 0.6 <= float(str(svg.get("width")))


def test_an_empty_installation_draws_nothing_and_says_so(member: Member) -> None:
    page = member("compliance").get(reverse("staff_dashboard")).content.decode()
    assert page.count("There is nothing to show yet.") == len(figures.FIGURES)
    assert "<svg" not in page


def test_what_is_too_little_is_not_drawn_either(member: Member, helix: Any, alice: Any) -> None:
    say(ask(helix, alice), yes=3, no=0)
    page = member("compliance").get(reverse("staff_dashboard")).content.decode()
    assert "The counts are too small to be shown." in page
    assert "<svg" not in page
    assert reverse("staff_dashboard_csv", args=["choices"]) in page


def test_what_does_not_match_the_ledger_stands_on_top(member: Member) -> None:
    dana = member("compliance")
    assert "does not match the ledger" not in dana.get(reverse("staff_dashboard")).content.decode()
    found = open_incident(code=PROOF_DIFFERS, place="row 41", by=Actor.system("web"))
    page = dana.get(reverse("staff_dashboard")).content.decode()
    assert "proof_differs, found on" in page
    assert "row 41" in page
    assert "nothing is released" not in page
    settle_incident(incident=found, by=Actor.system("web"))
    open_incident(code="state_differs", place="consent x", by=Actor.system("web"), holds=True)
    page = dana.get(reverse("staff_dashboard")).content.decode()
    assert "row 41" not in page
    assert "nothing is released" in page


def test_a_month_without_a_try_has_no_rate(model: Any) -> None:
    use(model, "TREAT", 30, refused=10)
    assert figures.blocked().plot.series[0].values[:-1] == [NOTHING] * 11
