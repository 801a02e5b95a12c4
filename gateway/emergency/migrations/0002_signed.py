"""Whether a clinician's passkey signed an emergency, and what it answered."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('emergency', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='emergency',
            name='confirmed',
            field=models.CharField(blank=True, choices=[('passkey', 'Passkey'), ('session', 'Session')], max_length=7),
        ),
        migrations.AddField(
            model_name='emergency',
            name='signature',
            field=models.JSONField(help_text='what the passkey answered', null=True),
        ),
    ]
