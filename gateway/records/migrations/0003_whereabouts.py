"""Which packets held a record: of those that were regrouped before, it is only known that there are some."""

from itertools import islice

import django.db.models.deletion
from django.db import migrations, models

AT_ONCE = 500


def unknown_before(apps, schema_editor):
    """Packets that a regrouping made, or came with one, may hold lines of any that stands no more."""
    chunk, moved = apps.get_model("records", "Chunk"), apps.get_model("records", "Moved")
    rows = chunk.objects.exclude(act="").filter(retired_at=None).values_list("pk", "patient_id")
    found = (moved(new=pk, patient_id=patient) for pk, patient in rows.iterator(chunk_size=AT_ONCE))
    while some := list(islice(found, AT_ONCE)):
        moved.objects.bulk_create(some)


class Migration(migrations.Migration):
    dependencies = [
        ("consent", "0001_tables"),
        ("records", "0002_passing_on"),
    ]

    operations = [
        migrations.CreateModel(
            name="Moved",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("old", models.CharField(blank=True, db_index=True, max_length=64)),
                ("new", models.CharField(db_index=True, max_length=64)),
                (
                    "patient",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="consent.patient",
                    ),
                ),
            ],
            options={"verbose_name_plural": "moved"},
        ),
        migrations.AddField(
            model_name="gone",
            name="chunk",
            field=models.CharField(blank=True, default="", max_length=64),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="gone",
            name="name",
            field=models.CharField(blank=True, db_index=True, default="", max_length=32),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="gone",
            name="version",
            field=models.CharField(blank=True, db_index=True, default="", max_length=32),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="resourceversion",
            name="version",
            field=models.CharField(blank=True, db_index=True, default="", max_length=32),
            preserve_default=False,
        ),
        migrations.RunPython(unknown_before, migrations.RunPython.noop, elidable=True),
    ]
