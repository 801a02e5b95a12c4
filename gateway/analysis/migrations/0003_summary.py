"""One result about many: sealed apart from the results of one each."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("analysis", "0002_proposed")]

    operations = [
        migrations.AlterField(
            model_name="job",
            name="kind",
            field=models.CharField(
                choices=[("analyse", "Analyse"), ("export", "Export"), ("summary", "Summary")],
                default="analyse",
                max_length=8,
            ),
        ),
        migrations.CreateModel(
            name="Summary",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("digest", models.CharField(db_index=True, max_length=64)),
                ("sealed", models.BinaryField()),
                ("delivered_at", models.DateTimeField(null=True)),
                (
                    "leg",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="summary",
                        to="analysis.leg",
                    ),
                ),
            ],
            options={"verbose_name_plural": "summaries"},
        ),
    ]
