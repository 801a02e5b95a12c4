"""The tables of audit; what led to them before the first release is replaced."""

from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    replaces = [
        ('audit', '0001_initial'),
        ('audit', '0002_auditrow_step_of'),
        ('audit', '0003_incident'),
        ('audit', '0004_steps_of_a_question'),
        ('audit', '0005_checkpoints_that_extend'),
        ('audit', '0006_uses'),
        ('audit', '0007_incidents_of_every_store'),
        ('audit', '0008_notes_of_checkpoints'),
    ]

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='AuditBatch',
            fields=[
                ('size', models.PositiveBigIntegerField(primary_key=True, serialize=False)),
                ('root', models.CharField(max_length=64)),
                ('range', models.JSONField()),
                ('first_at', models.DateTimeField()),
                ('last_at', models.DateTimeField()),
                ('origin', models.CharField(blank=True, help_text='under which name it stands there', max_length=300)),
                ('tx_id', models.CharField(blank=True, max_length=64)),
                ('block', models.PositiveBigIntegerField(null=True)),
                ('sealed_at', models.DateTimeField(auto_now_add=True)),
                ('note', models.TextField(blank=True)),
                ('timestamp', models.BinaryField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name='AuditNode',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('level', models.PositiveSmallIntegerField()),
                ('index', models.PositiveBigIntegerField()),
                ('hash', models.BinaryField(max_length=32)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('level', 'index'), name='one_audit_node')],
            },
        ),
        migrations.CreateModel(
            name='AuditRow',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('line', models.BinaryField(help_text='canonical JSON, the Merkle leaf')),
                ('kind', models.CharField(max_length=40)),
                ('subject', models.CharField(blank=True, max_length=64)),
                ('step_of', models.CharField(blank=True, max_length=64)),
                ('recorded_at', models.DateTimeField()),
                ('leaf', models.PositiveBigIntegerField(null=True, unique=True)),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('leaf__isnull', True)), fields=['id'], name='audit_unsealed'), models.Index(fields=['subject', '-id'], name='audit_audit_subject_f99a1f_idx'), models.Index(condition=models.Q(('kind__in', ('job.delivered', 'result.read'))), fields=['step_of', '-id'], name='audit_uses')],
            },
        ),
        migrations.CreateModel(
            name='Incident',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('code', models.CharField(max_length=40)),
                ('place', models.CharField(max_length=120)),
                ('holds', models.BooleanField(default=False)),
                ('opened_at', models.DateTimeField(auto_now_add=True)),
                ('settled_at', models.DateTimeField(null=True)),
            ],
            options={
                'constraints': [models.UniqueConstraint(condition=models.Q(('settled_at', None)), fields=('code', 'place'), name='one_open_incident')],
            },
        ),
    ]
