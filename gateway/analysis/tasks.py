"""Celery tasks: each takes an id and calls one service. The broker never sees anything else."""

import logging
from typing import Any

from celery.signals import worker_process_init
from django.utils import timezone
from kombu.exceptions import OperationalError

from gateway.analysis.children import ahead
from gateway.analysis.models import Job
from gateway.celery import app

log = logging.getLogger(__name__)


@app.task(name="analysis.run_job")
def run_job(job_id: str) -> None:
    from gateway.analysis.runner import run

    run(job_id)


@worker_process_init.connect
def start_a_child(**_: Any) -> None:
    """Each process of a worker has the next job's child ready."""
    ahead.begin()


def enqueue(job_id: str) -> bool:
    """Hand a job to the broker. False when the broker is down: the job waits for `recover`."""
    try:
        run_job.apply_async(args=(job_id,), retry=False, ignore_result=True)
    except (OperationalError, OSError):
        log.warning("broker_unavailable: a job waits until the broker is back")
        return False
    Job.objects.filter(pk=job_id).update(enqueued_at=timezone.now())
    return True
