"""A model that is proposed here has no test of its provider's."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('analysis', '0001_tables'),
    ]

    operations = [
        migrations.AlterField(
            model_name='modelregistration',
            name='card',
            field=models.JSONField(help_text="as the provider wrote it; the catalogue's where proposed here"),
        ),
        migrations.AlterField(
            model_name='modelregistration',
            name='tested_people',
            field=models.PositiveIntegerField(null=True),
        ),
        migrations.AlterField(
            model_name='modelregistration',
            name='tested_wrong',
            field=models.PositiveIntegerField(null=True),
        ),
    ]
