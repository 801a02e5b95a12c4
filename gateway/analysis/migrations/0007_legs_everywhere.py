import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("analysis", "0006_legs")]

    operations = [
        migrations.AlterField(
            model_name="jobsubject",
            name="leg",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="subjects", to="analysis.leg"
            ),
        ),
        migrations.AlterField(
            model_name="attempt",
            name="leg",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="attempts", to="analysis.leg"
            ),
        ),
        migrations.RemoveConstraint(model_name="attempt", name="one_attempt"),
        migrations.RemoveField(model_name="attempt", name="job"),
        migrations.AddConstraint(
            model_name="attempt",
            constraint=models.UniqueConstraint(fields=("leg", "number"), name="one_attempt_of_leg"),
        ),
    ]
