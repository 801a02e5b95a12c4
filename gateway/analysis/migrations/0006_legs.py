import django.db.models.deletion
from django.db import migrations, models

import consent.models


def one_leg_each(apps, schema_editor):
    """Every job from before has one leg, on home, under its own id."""
    Job, Leg = apps.get_model("analysis", "Job"), apps.get_model("analysis", "Leg")
    ends = {"delivering": "delivering", "done": "done", "denied": "denied"}
    settled = {"stopped", "failed", "cancelled"}
    for job in Job.objects.iterator():
        state = ends.get(job.state, "stopped" if job.state in settled else "open")
        leg = Leg.objects.create(id=job.pk, job=job, state=state)
        apps.get_model("analysis", "JobSubject").objects.filter(job=job).update(leg=leg)
        apps.get_model("analysis", "Attempt").objects.filter(job=job).update(leg=leg)


class Migration(migrations.Migration):
    dependencies = [("analysis", "0005_exports")]

    operations = [
        migrations.AddField(
            model_name="aimodel",
            name="pending_on",
            field=models.JSONField(blank=True, default=list, editable=False),
        ),
        migrations.CreateModel(
            name="Leg",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=consent.models.random_id,
                        editable=False,
                        max_length=64,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("channel", models.CharField(default="home", max_length=40)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("open", "Open"),
                            ("delivering", "Delivering"),
                            ("done", "Done"),
                            ("denied", "Denied"),
                            ("stopped", "Stopped"),
                        ],
                        default="open",
                        max_length=10,
                    ),
                ),
                (
                    "job",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="legs",
                        to="analysis.job",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("job", "channel"), name="one_leg_per_channel")
                ]
            },
        ),
        migrations.AddField(
            model_name="jobsubject",
            name="leg",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="subjects",
                to="analysis.leg",
            ),
        ),
        migrations.AddField(
            model_name="attempt",
            name="leg",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="attempts",
                to="analysis.leg",
            ),
        ),
        migrations.RunPython(one_leg_each, migrations.RunPython.noop),
    ]
