"""A checkpoint stands on the ledger under its log's name, and extends the one before.

What was anchored before that stands there under its size, which no proof speaks of any more: the next
checkpoint covers it.
"""

from typing import Any

from django.db import migrations, models


def anchor_anew(apps: Any, schema_editor: Any) -> None:
    apps.get_model("audit", "AuditBatch").objects.update(tx_id="", block=None)


class Migration(migrations.Migration):
    dependencies = [("audit", "0004_steps_of_a_question")]

    operations = [
        migrations.AddField(
            "auditbatch",
            "origin",
            models.CharField(blank=True, default="", help_text="under which name it stands there", max_length=300),
            preserve_default=False,
        ),
        migrations.RunPython(anchor_anew, migrations.RunPython.noop),
    ]
