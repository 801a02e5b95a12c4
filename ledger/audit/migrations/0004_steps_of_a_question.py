"""Rows about a question and its answers are steps of that question, those written before as well."""

import json
from typing import Any

from django.db import migrations
from django.db.models import Q


def fill(apps: Any, schema_editor: Any) -> None:
    rows = apps.get_model("audit", "AuditRow").objects.filter(step_of="")
    about = Q(kind__startswith="consent.") | Q(kind__startswith="request.")
    for row in rows.filter(about).only("line").iterator():
        row.step_of = json.loads(bytes(row.line))["details"].get("request", "")
        row.save(update_fields=["step_of"])


class Migration(migrations.Migration):
    dependencies = [("audit", "0003_incident")]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
