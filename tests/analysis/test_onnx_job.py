"""A model that is an ONNX file, from its registration to a delivered result, with a real worker and child."""

import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from consent.models import Requester
from gateway.accounts.models import User
from gateway.analysis import registrations, sandbox
from gateway.analysis.models import AIModel, Job
from gateway.analysis.services import FEWEST_TESTED
from ledger.audit.models import AuditRow
from ledger.errors import RefusedTransition
from tests.analysis.bodies import measured, patient
from tests.analysis.onnx_file import logistic
from tests.analysis.test_job_end_to_end import Play, assessment, play
from tests.analysis.test_onnx import BIAS, WEIGHTS, by_hand, made
from tests.questions import reviewer

__all__ = ["made", "play"]
Make = Callable[..., Any]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def deployed(made: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """The model in the catalogue of the code that job children run, put there as docs/models.md says."""

    def deploy(data: bytes = logistic(WEIGHTS, BIAS)) -> Any:
        model, code = made(data), tmp_path / "code"
        for room in ("gateway", "ledger"):
            left_out = shutil.ignore_patterns("__pycache__", "locale", "static", "templates", "migrations")
            shutil.copytree(sandbox.ROOT / room, code / room, ignore=left_out)
        catalogue = code / "gateway" / "analysis" / "catalogue"
        for name in ("pressure.py", "pressure.onnx"):
            shutil.copy(tmp_path / name, catalogue)
        listed = (catalogue / "__init__.py").read_text()
        listed = listed.replace(
            "from ledger.errors",
            "from gateway.analysis.catalogue.pressure import PressureRisk\nfrom ledger.errors",
        )
        listed = listed.replace("    NEWS2(),\n", "    NEWS2(),\n    PressureRisk(),\n")
        (catalogue / "__init__.py").write_text(listed)
        monkeypatch.setattr(sandbox, "ROOT", code)
        return model

    return deploy


def approved(play: Play, helix: Requester, model: Any) -> AIModel:
    """Registered by its provider, approved by two people, and on the ledger."""
    row = registrations.register(
        requester=helix,
        digest=model.digest(),
        name=model.name,
        version=model.version,
        card={"for": "A test."},
        people=FEWEST_TESTED,
        wrong=0,
    )
    registrations.approve(registration=row, by=reviewer())
    second = User.objects.create(username="sam", email="sam@example.org", is_staff=True)
    registrations.approve(registration=row, by=second)
    play.settle()
    play.model = model
    return AIModel.objects.get(pk=model.digest())


def job_of(play: Play) -> Job:
    someone = play.someone(patient(birthDate="1986-01-01"), measured("8480-6", 150, "mm[Hg]"))
    return play.run(play.submit(play.yes(someone).request_id))


def test_a_file_is_approved_runs_in_a_child_and_its_result_is_delivered(
    play: Play, helix: Requester, deployed: Make
) -> None:
    model = deployed()
    assert approved(play, helix, model).state == AIModel.State.APPROVED
    job = job_of(play)
    assert (job.state, job.error_code) == (Job.State.DONE, "")
    risk = assessment(play.result(job))
    age = int(job.created_at.year - 1986)
    given = Decimal(str(risk["prediction"][0]["probabilityDecimal"]))
    assert given == by_hand(age, 150)
    assert risk["method"]["coding"][0]["code"] == model.digest()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (logistic(WEIGHTS, BIAS, opset=99), "onnx_opset"),
        (logistic(WEIGHTS, BIAS, domain="com.example"), "onnx_opset"),
        (logistic(WEIGHTS, BIAS, outside=True), "onnx_external"),
    ],
)
@pytest.mark.django_db(transaction=False)
def test_a_file_that_is_not_run_is_not_approved(data: bytes, code: str, made: Make, helix: Requester) -> None:
    model = made(data)
    row = registrations.register(
        requester=helix,
        digest=model.digest(),
        name=model.name,
        version=model.version,
        card={"for": "A test."},
        people=FEWEST_TESTED,
        wrong=0,
    )
    with pytest.raises(RefusedTransition) as refused:
        registrations.approve(registration=row, by=reviewer())
    assert refused.value.code == code
    row.refresh_from_db()
    assert row.state == row.State.WAITING
    assert not AIModel.objects.exists()


def test_a_file_that_does_not_fit_its_card_fails_its_job(
    play: Play, helix: Requester, deployed: Make
) -> None:
    approved(play, helix, deployed(logistic(WEIGHTS, BIAS, columns=3)))
    job = job_of(play)
    assert (job.state, job.error_code) == (Job.State.FAILED, "onnx_inputs")
    assert not AuditRow.objects.filter(kind="job.delivered").exists()
