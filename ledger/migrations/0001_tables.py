"""The tables of ledger; what led to them before the first release is replaced."""

from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    replaces = [
        ('ledger', '0001_initial'),
        ('ledger', '0002_caught_up'),
        ('ledger', '0003_channels'),
    ]

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='EventCursor',
            fields=[
                ('listener', models.CharField(max_length=90, primary_key=True, serialize=False)),
                ('block', models.BigIntegerField(default=-1)),
                ('index', models.BigIntegerField(default=-1)),
                ('height', models.BigIntegerField(default=0)),
                ('caught_up_at', models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name='LedgerTransaction',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=40)),
                ('args', models.JSONField(default=dict)),
                ('reference', models.CharField(db_index=True, max_length=160)),
                ('channel', models.CharField(default='home', max_length=40)),
                ('through', models.CharField(choices=[('gateway', 'Gateway'), ('keyholder', 'Keyholder')], default='gateway', max_length=10)),
                ('state', models.CharField(choices=[('pending', 'Pending'), ('sent', 'Sent'), ('committed', 'Committed'), ('refused', 'Refused')], default='pending', max_length=10)),
                ('tx_id', models.CharField(blank=True, db_index=True, max_length=64)),
                ('envelope', models.BinaryField(null=True)),
                ('block', models.PositiveBigIntegerField(null=True)),
                ('error_code', models.CharField(blank=True, max_length=60)),
                ('attempts', models.PositiveIntegerField(default=0)),
                ('not_before', models.DateTimeField(null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('settled_at', models.DateTimeField(null=True)),
            ],
            options={
                'indexes': [models.Index(fields=['state', 'id'], name='ledger_ledg_state_140e67_idx')],
            },
        ),
    ]
