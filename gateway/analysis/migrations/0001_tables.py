"""The tables of analysis; what led to them before the first release is replaced."""

import consent.models
import django.db.models.deletion
import gateway.analysis.models
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    replaces = [
        ('analysis', '0001_initial'),
        ('analysis', '0002_alter_aimodel_options'),
        ('analysis', '0003_review_and_recorded'),
        ('analysis', '0004_one_idempotency'),
        ('analysis', '0005_exports'),
        ('analysis', '0006_legs'),
        ('analysis', '0007_legs_everywhere'),
        ('analysis', '0008_result_review'),
        ('analysis', '0009_cohorts_and_registrations'),
        ('analysis', '0010_trained_on'),
        ('analysis', '0011_sent_results'),
    ]

    dependencies = [
        ('audit', '0001_tables'),
        ('consent', '0001_tables'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='AIModel',
            fields=[
                ('digest', models.CharField(max_length=64, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=60)),
                ('version', models.CharField(max_length=20)),
                ('card', models.JSONField()),
                ('pending_on', models.JSONField(blank=True, default=list, editable=False)),
                ('state', models.CharField(choices=[('registering', 'Registering'), ('approved', 'Approved'), ('suspended', 'Suspended')], default='registering', max_length=12)),
                ('tested_people', models.PositiveIntegerField(blank=True, null=True)),
                ('tested_wrong', models.PositiveIntegerField(blank=True, null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('provider', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='models', to='consent.requester')),
            ],
            options={
                'verbose_name': 'AI model',
            },
        ),
        migrations.CreateModel(
            name='ExportKey',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.BinaryField(default=gateway.analysis.models.random_key)),
                ('requester', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='consent.requester')),
            ],
        ),
        migrations.CreateModel(
            name='Job',
            fields=[
                ('id', models.CharField(default=consent.models.random_id, editable=False, max_length=64, primary_key=True, serialize=False)),
                ('kind', models.CharField(choices=[('analyse', 'Analyse'), ('export', 'Export')], default='analyse', max_length=8)),
                ('model', models.CharField(blank=True, help_text='digest; an export has none', max_length=64)),
                ('spec', models.JSONField(blank=True, default=dict)),
                ('discarded_at', models.DateTimeField(null=True)),
                ('purpose', models.CharField(max_length=20)),
                ('use', models.JSONField(default=list)),
                ('index_date', models.DateField()),
                ('state', models.CharField(choices=[('queued', 'Queued'), ('releasing', 'Releasing'), ('running', 'Running'), ('delivering', 'Delivering'), ('done', 'Done'), ('denied', 'Denied'), ('stopped', 'Stopped'), ('failed', 'Failed'), ('cancelled', 'Cancelled')], default='queued', max_length=12)),
                ('error_code', models.CharField(blank=True, max_length=60)),
                ('lease_until', models.DateTimeField(null=True)),
                ('fence', models.PositiveIntegerField(default=0)),
                ('lost', models.PositiveIntegerField(default=0)),
                ('retry_at', models.DateTimeField(null=True)),
                ('enqueued_at', models.DateTimeField(null=True)),
                ('cancel_requested', models.BooleanField(default=False)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('settled_at', models.DateTimeField(null=True)),
                ('cohort', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='jobs', to='consent.cohort')),
                ('requester', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='jobs', to='consent.requester')),
            ],
        ),
        migrations.CreateModel(
            name='Leg',
            fields=[
                ('id', models.CharField(default=consent.models.random_id, editable=False, max_length=64, primary_key=True, serialize=False)),
                ('channel', models.CharField(default='home', max_length=40)),
                ('number', models.PositiveIntegerField(default=0, help_text="place among the channel's")),
                ('state', models.CharField(choices=[('open', 'Open'), ('delivering', 'Delivering'), ('done', 'Done'), ('denied', 'Denied'), ('stopped', 'Stopped')], default='open', max_length=10)),
                ('job', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='legs', to='analysis.job')),
            ],
        ),
        migrations.CreateModel(
            name='JobSubject',
            fields=[
                ('id', models.CharField(default=consent.models.random_id, editable=False, max_length=64, primary_key=True, serialize=False)),
                ('number', models.PositiveIntegerField(help_text="place in the client's list")),
                ('asked', models.CharField(blank=True, help_text="the consent request's id, as the client named it; of a cohort none", max_length=64)),
                ('nobody', models.CharField(default=consent.models.random_id, editable=False, max_length=64)),
                ('consent', models.CharField(blank=True, max_length=64)),
                ('state', models.CharField(choices=[('queued', 'Queued'), ('released', 'Released'), ('computed', 'Computed'), ('delivered', 'Delivered'), ('not_available', 'Not Available')], default='queued', max_length=13)),
                ('reasons', models.JSONField(default=list)),
                ('job', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='subjects', to='analysis.job')),
                ('patient', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='consent.patient')),
                ('request', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='consent.consentrequest')),
                ('leg', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='subjects', to='analysis.leg')),
            ],
        ),
        migrations.CreateModel(
            name='Attempt',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField()),
                ('release_tx', models.CharField(blank=True, max_length=64)),
                ('deliver_tx', models.CharField(blank=True, max_length=64)),
                ('started_at', models.DateTimeField(auto_now_add=True)),
                ('ended_at', models.DateTimeField(null=True)),
                ('end', models.CharField(blank=True, max_length=60)),
                ('leg', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='attempts', to='analysis.leg')),
            ],
        ),
        migrations.CreateModel(
            name='ModelRegistration',
            fields=[
                ('id', models.CharField(default=consent.models.random_id, editable=False, max_length=64, primary_key=True, serialize=False)),
                ('digest', models.CharField(max_length=64)),
                ('name', models.CharField(max_length=60)),
                ('version', models.CharField(max_length=20)),
                ('card', models.JSONField(help_text='as the provider wrote it')),
                ('tested_people', models.PositiveIntegerField()),
                ('tested_wrong', models.PositiveIntegerField()),
                ('trained_on', models.JSONField(null=True)),
                ('state', models.CharField(choices=[('waiting', 'Waiting'), ('once', 'Once'), ('approved', 'Approved'), ('refused', 'Refused')], default='waiting', max_length=8)),
                ('reasons', models.JSONField(default=list, help_text='codes of registrations.REASONS')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('decided_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('first_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('requester', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='registrations', to='consent.requester')),
            ],
        ),
        migrations.CreateModel(
            name='Output',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('digest', models.CharField(db_index=True, max_length=64)),
                ('sealed', models.BinaryField()),
                ('delivered_at', models.DateTimeField(null=True)),
                ('sent', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='audit.auditrow')),
                ('subject', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='output', to='analysis.jobsubject')),
            ],
        ),
        migrations.CreateModel(
            name='ResultReview',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('state', models.CharField(choices=[('accepted', 'Accepted'), ('rejected', 'Rejected'), ('withdrawn', 'Withdrawn')], max_length=9)),
                ('reason', models.CharField(blank=True, help_text='a code of results.REASONS', max_length=20)),
                ('output', models.CharField(db_index=True, help_text='digest of the sealed result', max_length=64)),
                ('reviewed_at', models.DateTimeField()),
                ('reviewed_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('subject', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='review', to='analysis.jobsubject')),
            ],
        ),
        migrations.AddIndex(
            model_name='job',
            index=models.Index(fields=['state', 'lease_until'], name='analysis_jo_state_45b4ef_idx'),
        ),
        migrations.AddIndex(
            model_name='job',
            index=models.Index(fields=['requester', '-created_at'], name='analysis_jo_request_150872_idx'),
        ),
        migrations.AddIndex(
            model_name='job',
            index=models.Index(fields=['model', '-created_at'], name='jobs_of_model'),
        ),
        migrations.AddConstraint(
            model_name='leg',
            constraint=models.UniqueConstraint(fields=('job', 'channel', 'number'), name='one_leg_per_place'),
        ),
        migrations.AddIndex(
            model_name='jobsubject',
            index=models.Index(fields=['consent'], name='subjects_of_consent'),
        ),
        migrations.AddConstraint(
            model_name='jobsubject',
            constraint=models.UniqueConstraint(fields=('job', 'number'), name='one_subject_per_place'),
        ),
        migrations.AddConstraint(
            model_name='attempt',
            constraint=models.UniqueConstraint(fields=('leg', 'number'), name='one_attempt_of_leg'),
        ),
        migrations.AddIndex(
            model_name='modelregistration',
            index=models.Index(fields=['requester', 'digest', '-created_at'], name='registrations_of'),
        ),
        migrations.AddIndex(
            model_name='resultreview',
            index=models.Index(fields=['state', '-reviewed_at', '-id'], name='results_reviewed'),
        ),
    ]
