"""Incidents are about any store's rows, may hold releases, and are settled when what they say is so no more."""

from typing import Any

from django.db import migrations, models


def name_places(apps: Any, schema_editor: Any) -> None:
    incidents = apps.get_model("audit", "Incident").objects
    for incident in incidents.all():
        incidents.filter(pk=incident.pk).update(place=f"row {incident.leaf}")


class Migration(migrations.Migration):
    dependencies = [("audit", "0006_uses")]

    operations = [
        migrations.RemoveConstraint("incident", "one_incident"),
        migrations.AddField("incident", "place", models.CharField(default="", max_length=120), preserve_default=False),
        migrations.AddField("incident", "holds", models.BooleanField(default=False)),
        migrations.AddField("incident", "settled_at", models.DateTimeField(null=True)),
        migrations.RunPython(name_places, migrations.RunPython.noop),
        migrations.RemoveField("incident", "leaf"),
        migrations.AddConstraint(
            "incident",
            models.UniqueConstraint(
                condition=models.Q(("settled_at", None)), fields=("code", "place"), name="one_open_incident"
            ),
        ),
    ]
