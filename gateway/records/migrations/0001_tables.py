"""The tables of records; what led to them before the first release is replaced."""

import consent.models
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    replaces = [
        ('records', '0001_initial'),
        ('records', '0002_own_copy'),
        ('records', '0003_quarantine'),
        ('records', '0004_order'),
    ]

    dependencies = [
        ('consent', '0001_tables'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Deletion',
            fields=[
                ('name', models.CharField(max_length=32, primary_key=True, serialize=False)),
                ('at', models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name='IngestedFile',
            fields=[
                ('digest', models.CharField(max_length=64, primary_key=True, serialize=False)),
                ('resources', models.PositiveIntegerField()),
                ('rules', models.CharField(blank=True, max_length=16)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name='Regrouping',
            fields=[
                ('act', models.CharField(default=consent.models.random_id, editable=False, max_length=64, primary_key=True, serialize=False)),
                ('at', models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name='Unsettled',
            fields=[
                ('whose', models.CharField(max_length=64, primary_key=True, serialize=False)),
                ('since', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'verbose_name_plural': 'unsettled',
            },
        ),
        migrations.CreateModel(
            name='Chunk',
            fields=[
                ('id', models.CharField(default=consent.models.random_id, editable=False, max_length=64, primary_key=True, serialize=False)),
                ('version', models.PositiveIntegerField(default=1)),
                ('blob', models.BinaryField()),
                ('notes', models.BinaryField(default=bytes)),
                ('confirmed_at', models.DateTimeField(db_index=True, null=True)),
                ('act', models.CharField(blank=True, max_length=64)),
                ('retired_at', models.DateTimeField(db_index=True, null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('patient', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='chunks', to='consent.patient')),
            ],
        ),
        migrations.CreateModel(
            name='Gone',
            fields=[
                ('digest', models.CharField(max_length=64, primary_key=True, serialize=False)),
                ('patient', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='consent.patient')),
            ],
        ),
        migrations.CreateModel(
            name='ImportRun',
            fields=[
                ('id', models.CharField(default=consent.models.random_id, editable=False, max_length=64, primary_key=True, serialize=False)),
                ('state', models.CharField(choices=[('running', 'Running'), ('done', 'Done'), ('failed', 'Failed'), ('lost', 'Lost')], default='running', max_length=8)),
                ('files', models.PositiveIntegerField(default=0)),
                ('files_done', models.PositiveIntegerField(default=0)),
                ('bytes', models.PositiveBigIntegerField(default=0)),
                ('bytes_done', models.PositiveBigIntegerField(default=0)),
                ('error_code', models.CharField(blank=True, max_length=60)),
                ('report', models.JSONField(default=dict)),
                ('started_at', models.DateTimeField(auto_now_add=True)),
                ('seen_at', models.DateTimeField()),
                ('ended_at', models.DateTimeField(null=True)),
            ],
            options={
                'indexes': [models.Index(fields=['-started_at'], name='import_runs_newest')],
            },
        ),
        migrations.CreateModel(
            name='Quarantined',
            fields=[
                ('id', models.CharField(default=consent.models.random_id, editable=False, max_length=64, primary_key=True, serialize=False)),
                ('file', models.CharField(max_length=64)),
                ('line', models.PositiveBigIntegerField()),
                ('entry', models.CharField(blank=True, max_length=40)),
                ('kind', models.CharField(blank=True, max_length=40)),
                ('faults', models.JSONField()),
                ('blob', models.BinaryField()),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'verbose_name_plural': 'quarantined',
                'indexes': [models.Index(fields=['created_at', 'id'], name='quarantine_in_order')],
            },
        ),
        migrations.CreateModel(
            name='ResourceVersion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('digest', models.CharField(max_length=64, unique=True)),
                ('name', models.CharField(blank=True, db_index=True, max_length=32)),
                ('rules', models.CharField(blank=True, max_length=16)),
                ('chunk', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='resource_versions', to='records.chunk')),
            ],
        ),
        migrations.CreateModel(
            name='LabelChange',
            fields=[
                ('id', models.CharField(default=consent.models.random_id, editable=False, max_length=64, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=32)),
                ('act', models.CharField(choices=[('add', 'Add'), ('lift', 'Lift')], max_length=4)),
                ('sealed', models.BinaryField()),
                ('state', models.CharField(choices=[('asked', 'Asked'), ('due', 'Due'), ('done', 'Done'), ('refused', 'Refused')], max_length=8)),
                ('asked_at', models.DateTimeField(auto_now_add=True)),
                ('settled_at', models.DateTimeField(null=True)),
                ('by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('patient', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='label_changes', to='consent.patient')),
                ('second', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'indexes': [models.Index(fields=['patient', '-asked_at'], name='label_changes_of_patient'), models.Index(fields=['state', 'asked_at'], name='label_changes_by_state')],
            },
        ),
        migrations.CreateModel(
            name='OwnCopy',
            fields=[
                ('id', models.CharField(default=consent.models.random_id, editable=False, max_length=64, primary_key=True, serialize=False)),
                ('state', models.CharField(choices=[('asked', 'Asked'), ('recorded', 'Recorded')], default='asked', max_length=10)),
                ('voucher', models.JSONField(null=True)),
                ('tx_id', models.CharField(blank=True, max_length=64)),
                ('asked_at', models.DateTimeField()),
                ('expires_at', models.DateTimeField()),
                ('patient', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='own_copies', to='consent.patient')),
            ],
            options={
                'verbose_name_plural': 'own copies',
                'indexes': [models.Index(fields=['patient', '-asked_at'], name='own_copies_of_patient')],
            },
        ),
    ]
