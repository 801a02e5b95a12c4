"""For whom what a clinician added has still to be passed on: to begin with, whoever had something added."""

from django.db import migrations, models
from django.utils import timezone


def pass_on_what_was_said_before(apps, schema_editor):
    """What clinicians added before passes along too."""
    changes = apps.get_model("records", "LabelChange").objects.filter(act="add", state="done")
    to_pass_on = apps.get_model("records", "ToPassOn")
    whose = changes.order_by().values_list("patient", flat=True).distinct()
    to_pass_on.objects.bulk_create([to_pass_on(whose=one, since=timezone.now()) for one in whose], batch_size=500)


class Migration(migrations.Migration):
    dependencies = [("records", "0001_tables")]

    operations = [
        migrations.CreateModel(
            name="ToPassOn",
            fields=[
                ("whose", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("since", models.DateTimeField()),
            ],
            options={"verbose_name_plural": "to pass on"},
        ),
        migrations.AddField(
            model_name="chunk", name="stays_small", field=models.BooleanField(default=False)
        ),
        migrations.RunPython(pass_on_what_was_said_before, migrations.RunPython.noop, elidable=True),
    ]
