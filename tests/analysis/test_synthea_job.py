"""The main job on the Synthea sample: ingest, a yes of everyone, one job, a result or a reason for each."""

from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from consent.models import Patient
from gateway.analysis.models import Job
from gateway.records.ingest import ingest
from tests.analysis.test_job_end_to_end import PCE, Play, play  # noqa: F401 (a fixture)

pytestmark = pytest.mark.django_db(transaction=True)


def resources_of(bundle: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind]


def test_each_consented_patient_gets_a_number_or_a_reason(play: Play, sample_data: Path) -> None:  # noqa: F811
    report = ingest([sample_data / "synthea-2019-bundles"], keyholder=play.keyholder)
    assert report.refusals == 0
    Patient.objects.update(proofed_at=timezone.now())
    patients = list(Patient.objects.exclude(record_id=None).order_by("created_at"))
    assert len(patients) == 16
    requests = [play.yes(patient).request_id for patient in patients]

    job = play.run(play.submit(*requests))

    assert job.state == Job.State.DONE
    numbers = 0
    for number in range(len(patients)):
        bundle = play.result(job, number)
        [assessment] = resources_of(bundle, "RiskAssessment")
        assert resources_of(bundle, "Provenance")
        prediction = assessment["prediction"][0]
        if "probabilityDecimal" in prediction:
            assert 0 < prediction["probabilityDecimal"] < 100
            numbers += 1
        else:
            [outcome] = resources_of(bundle, "OperationOutcome")
            assert outcome["issue"]
    assert 0 < numbers < len(patients)
