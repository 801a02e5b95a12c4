"""The tables of compliance; what led to them before the first release is replaced."""

import consent.models
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    replaces = [
        ('compliance', '0001_exports'),
        ('compliance', '0002_alarms'),
        ('compliance', '0003_retraining'),
        ('compliance', '0004_rights'),
    ]

    dependencies = [
        ('consent', '0001_tables'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Watched',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('leaf', models.PositiveBigIntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name='Export',
            fields=[
                ('id', models.CharField(default=consent.models.random_id, editable=False, max_length=64, primary_key=True, serialize=False)),
                ('kind', models.CharField(max_length=20)),
                ('model', models.CharField(blank=True, help_text='digest', max_length=64)),
                ('since', models.DateField(null=True)),
                ('until', models.DateField(null=True)),
                ('language', models.CharField(help_text='of its documents', max_length=10)),
                ('state', models.CharField(choices=[('queued', 'Queued'), ('running', 'Running'), ('ready', 'Ready'), ('failed', 'Failed'), ('gone', 'Gone')], default='queued', max_length=8)),
                ('error_code', models.CharField(blank=True, max_length=60)),
                ('lease_until', models.DateTimeField(null=True)),
                ('tries', models.PositiveSmallIntegerField(default=0)),
                ('written', models.PositiveBigIntegerField(default=0)),
                ('rows', models.PositiveBigIntegerField(default=0)),
                ('digest', models.CharField(blank=True, help_text='SHA-256 of the file', max_length=64)),
                ('size', models.PositiveBigIntegerField(default=0, help_text='bytes of the file')),
                ('asked_at', models.DateTimeField(auto_now_add=True)),
                ('made_at', models.DateTimeField(null=True)),
                ('expires_at', models.DateTimeField(null=True)),
                ('asked_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('consent', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='consent.consent')),
                ('patient', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='exports', to='consent.patient')),
                ('requester', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='consent.requester')),
            ],
        ),
        migrations.CreateModel(
            name='ExportPart',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField()),
                ('sealed', models.BinaryField()),
                ('export', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='parts', to='compliance.export')),
            ],
        ),
        migrations.CreateModel(
            name='Look',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField()),
                ('by', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('patient', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='consent.patient')),
            ],
        ),
        migrations.CreateModel(
            name='Retraining',
            fields=[
                ('settled_at', models.DateTimeField(null=True)),
                ('reason', models.TextField(blank=True)),
                ('id', models.CharField(default=consent.models.random_id, editable=False, max_length=64, primary_key=True, serialize=False)),
                ('consent', models.CharField(max_length=64, unique=True)),
                ('state', models.CharField(choices=[('open', 'Open'), ('asked', 'Asked'), ('settled', 'Settled')], default='open', max_length=7)),
                ('withdrawn_at', models.DateTimeField()),
                ('asked_at', models.DateTimeField(null=True)),
                ('outcome', models.CharField(blank=True, choices=[('retrained', 'Retrained'), ('retired', 'Retired'), ('not_trained', 'Not Trained'), ('kept', 'Kept')], max_length=11)),
                ('owner', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('requester', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='retrainings', to='consent.requester')),
                ('settled_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
        ),
        migrations.CreateModel(
            name='RightsReview',
            fields=[
                ('settled_at', models.DateTimeField(null=True)),
                ('reason', models.TextField(blank=True)),
                ('id', models.CharField(default=consent.models.random_id, editable=False, max_length=64, primary_key=True, serialize=False)),
                ('roles', models.JSONField()),
                ('opened_at', models.DateTimeField(auto_now_add=True)),
                ('outcome', models.CharField(blank=True, choices=[('confirmed', 'Confirmed'), ('taken_away', 'Taken Away')], max_length=10)),
                ('of', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('owner', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('settled_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
        ),
        migrations.CreateModel(
            name='Alarm',
            fields=[
                ('settled_at', models.DateTimeField(null=True)),
                ('reason', models.TextField(blank=True)),
                ('id', models.CharField(default=consent.models.random_id, editable=False, max_length=64, primary_key=True, serialize=False)),
                ('kind', models.CharField(choices=[('night', 'Night'), ('own', 'Own'), ('surname', 'Surname'), ('volume', 'Volume'), ('well_known', 'Well Known')], max_length=10)),
                ('day', models.DateField()),
                ('seen_at', models.DateTimeField()),
                ('leaf', models.PositiveBigIntegerField(help_text="of the log's row")),
                ('outcome', models.CharField(blank=True, choices=[('explained', 'Explained'), ('misuse', 'Misuse')], max_length=10)),
                ('by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('owner', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('patient', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='consent.patient')),
                ('settled_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'indexes': [models.Index(fields=['settled_at', 'seen_at'], name='alarm_queue')],
                'constraints': [models.UniqueConstraint(fields=('kind', 'by', 'patient', 'day'), name='one_alarm_a_day')],
            },
        ),
        migrations.AddIndex(
            model_name='export',
            index=models.Index(fields=['state', 'expires_at'], name='compliance__state_ff64b1_idx'),
        ),
        migrations.AddIndex(
            model_name='export',
            index=models.Index(fields=['-asked_at', '-id'], name='compliance__asked_a_babe73_idx'),
        ),
        migrations.AddConstraint(
            model_name='exportpart',
            constraint=models.UniqueConstraint(fields=('export', 'number'), name='one_part_of_export'),
        ),
        migrations.AddIndex(
            model_name='look',
            index=models.Index(fields=['by', 'at'], name='compliance__by_id_3af136_idx'),
        ),
        migrations.AddIndex(
            model_name='retraining',
            index=models.Index(fields=['state', 'withdrawn_at'], name='retraining_queue'),
        ),
        migrations.AddIndex(
            model_name='rightsreview',
            index=models.Index(fields=['settled_at', 'opened_at'], name='rights_queue'),
        ),
        migrations.AddConstraint(
            model_name='rightsreview',
            constraint=models.UniqueConstraint(condition=models.Q(('settled_at', None)), fields=('of',), name='one_open_review'),
        ),
    ]
