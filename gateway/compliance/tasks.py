"""The Celery task: it takes an id and calls one service. The broker never sees anything else."""

import logging

from kombu.exceptions import OperationalError

from gateway.celery import app

log = logging.getLogger(__name__)


@app.task(name="compliance.make_export")
def make_export(export_id: str) -> None:
    from gateway.compliance import services

    services.make(export_id)


def enqueue(export_id: str) -> bool:
    """Hand an export to the broker. False when the broker is down: the relay tries again."""
    try:
        make_export.apply_async(args=(export_id,), retry=False, ignore_result=True)
    except (OperationalError, OSError):
        log.warning("broker_unavailable: an export waits until the broker is back")
        return False
    return True
