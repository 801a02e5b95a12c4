"""The tables of consent; what led to them before the first release is replaced."""

import consent.counting
import consent.models
import django.db.models.deletion
import uuid
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    replaces = [
        ('consent', '0001_initial'),
        ('consent', '0002_review_and_recorded'),
        ('consent', '0003_channels'),
        ('consent', '0004_progress'),
        ('consent', '0005_receipts'),
        ('consent', '0006_news'),
        ('consent', '0007_signature'),
        ('consent', '0008_exports'),
        ('consent', '0009_representatives'),
        ('consent', '0010_passkeys'),
        ('consent', '0011_news_of_representatives'),
        ('consent', '0012_cohorts'),
        ('consent', '0013_erasures'),
        ('consent', '0014_well_known'),
        ('consent', '0015_news_of_a_way_back'),
    ]

    # Tables of packages come first: Django builds every related model anew for each of their many steps, and
    # most of ours are related to the users'.
    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ('admin', '0003_logentry_add_action_flag_choices'),
        ('mfa', '0003_authenticator_type_uniq'),
        ('oauth2_provider', '0022_refreshtoken_token_family_index'),
    ]

    operations = [
        migrations.CreateModel(
            name='ErasedConsent',
            fields=[
                ('consent', models.CharField(max_length=64, primary_key=True, serialize=False)),
            ],
        ),
        migrations.CreateModel(
            name='Requester',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=200)),
                ('contact', models.CharField(blank=True, max_length=200)),
                ('purposes', models.JSONField(blank=True, default=list)),
                ('suspended_at', models.DateTimeField(blank=True, null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name='Cohort',
            fields=[
                ('id', models.CharField(default=consent.models.random_id, editable=False, max_length=64, primary_key=True, serialize=False)),
                ('question', models.JSONField(help_text='what asking.ask takes, dates as text')),
                ('wish', models.CharField(help_text='whom the requester wants, in its own words', max_length=500)),
                ('state', models.CharField(choices=[('proposed', 'Proposed'), ('written', 'Written'), ('asking', 'Asking'), ('asked', 'Asked'), ('sent_back', 'Sent Back')], default='proposed', max_length=10)),
                ('criteria', models.JSONField(default=dict, help_text='cohorts.Criteria')),
                ('found', models.PositiveIntegerField(null=True)),
                ('chosen', models.JSONField(default=list)),
                ('send_back_reasons', models.JSONField(default=list)),
                ('short_by', models.JSONField(default=consent.counting.draw_two)),
                ('told_in_force', models.PositiveIntegerField(null=True)),
                ('told_at', models.DateTimeField(null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('approved_at', models.DateTimeField(null=True)),
                ('approved_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('written_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('requester', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='cohorts', to='consent.requester')),
            ],
        ),
        migrations.CreateModel(
            name='ConsentRequest',
            fields=[
                ('id', models.CharField(default=consent.models.random_id, editable=False, max_length=64, primary_key=True, serialize=False)),
                ('action', models.CharField(choices=[('use', 'Use'), ('disclose', 'Disclose')], default='use', max_length=8)),
                ('model', models.CharField(blank=True, help_text='digest; a copy is for no model', max_length=64)),
                ('purpose', models.CharField(help_text='v3-ActReason code', max_length=20)),
                ('use', models.JSONField(default=list, help_text='DUO codes')),
                ('kinds', models.JSONField(default=list, help_text='FHIR resource types asked for')),
                ('sensitive', models.JSONField(default=list, help_text='v3-ActCode sensitivity codes asked for')),
                ('what_for', models.CharField(help_text='in plain words', max_length=300)),
                ('who_sees', models.CharField(blank=True, max_length=300)),
                ('what_can_go_wrong', models.TextField(blank=True)),
                ('share_until', models.DateField()),
                ('answer_by', models.DateField()),
                ('signature_required', models.BooleanField(default=False, help_text='only a yes signed with a passkey counts')),
                ('state', models.CharField(choices=[('review', 'Review'), ('sent_back', 'Sent Back'), ('pending', 'Pending'), ('answered', 'Answered'), ('withdrawn', 'Withdrawn'), ('expired', 'Expired')], default='review', max_length=10)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('review_by', models.DateField(null=True)),
                ('send_back_reasons', models.JSONField(blank=True, default=list)),
                ('asked_at', models.DateTimeField(blank=True, null=True)),
                ('asked_anew_at', models.DateTimeField(blank=True, null=True)),
                ('cohort', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='requests', to='consent.cohort')),
                ('owner', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('reviewed_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
        ),
        migrations.CreateModel(
            name='Consent',
            fields=[
                ('id', models.CharField(default=consent.models.random_id, editable=False, max_length=64, primary_key=True, serialize=False)),
                ('channel', models.CharField(default='home', editable=False, help_text="the patient's", max_length=40)),
                ('status', models.CharField(choices=[('proposed', 'Proposed'), ('active', 'Active'), ('rejected', 'Rejected'), ('inactive', 'Inactive'), ('entered-in-error', 'Entered In Error')], default='proposed', max_length=20)),
                ('ledger_state', models.CharField(choices=[('none', 'None'), ('granting', 'Granting'), ('in_force', 'In Force'), ('held', 'Held'), ('refused', 'Refused'), ('revoking', 'Revoking'), ('revoked', 'Revoked'), ('superseded', 'Superseded')], default='none', max_length=12)),
                ('duration', models.CharField(blank=True, choices=[('once', 'Once'), ('90_days', 'Ninety Days'), ('until', 'Until')], max_length=10)),
                ('kinds', models.JSONField(default=list, help_text='FHIR resource types given')),
                ('sensitive', models.JSONField(default=list, help_text='v3-ActCode sensitivity codes given')),
                ('fhir', models.JSONField(help_text='the FHIR R4 Consent, as given')),
                ('signature', models.JSONField(blank=True, editable=False, null=True)),
                ('given_by', models.CharField(choices=[('portal', 'Portal'), ('paper', 'Paper'), ('phone', 'Phone')], default='portal', max_length=6)),
                ('authority', models.CharField(choices=[('patient', 'Patient'), ('parent', 'Parent'), ('guardian', 'Guardian'), ('attorney', 'Attorney')], default='patient', max_length=8)),
                ('teach_back', models.JSONField(default=dict, help_text='teach-back question: how often it was asked')),
                ('stopped_by', models.CharField(blank=True, max_length=14)),
                ('invalid_at', models.DateTimeField(blank=True, null=True)),
                ('decided_at', models.DateTimeField(auto_now_add=True)),
                ('expires_at', models.DateTimeField(null=True)),
                ('granted_at', models.DateTimeField(null=True)),
                ('stopped_at', models.DateTimeField(null=True)),
                ('revoked_at', models.DateTimeField(null=True)),
                ('recorded_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('replaces', models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='replaced_by', to='consent.consent')),
                ('request', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='consents', to='consent.consentrequest')),
            ],
        ),
        migrations.CreateModel(
            name='Deletion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('asked_at', models.DateTimeField(auto_now_add=True)),
                ('confirmed_at', models.DateTimeField(null=True)),
                ('consent', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='deletion', to='consent.consent')),
            ],
        ),
        migrations.CreateModel(
            name='Notice',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('slug', models.SlugField(max_length=60)),
                ('version', models.PositiveIntegerField()),
                ('language', models.CharField(max_length=10)),
                ('title', models.CharField(max_length=200)),
                ('text', models.TextField()),
                ('digest', models.CharField(editable=False, max_length=64)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('slug', 'version', 'language'), name='one_notice')],
            },
        ),
        migrations.AddField(
            model_name='consentrequest',
            name='notice',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='consent.notice'),
        ),
        migrations.AddField(
            model_name='consent',
            name='notice',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='consent.notice'),
        ),
        migrations.CreateModel(
            name='Patient',
            fields=[
                ('id', models.CharField(default=consent.models.random_id, editable=False, max_length=64, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=200)),
                ('birth_date', models.DateField(blank=True, null=True)),
                ('record_id', models.CharField(blank=True, max_length=64, null=True, unique=True)),
                ('channel', models.CharField(default='home', editable=False, max_length=40)),
                ('invitation_digest', models.CharField(blank=True, db_index=True, max_length=64)),
                ('invitation_expires', models.DateTimeField(blank=True, null=True)),
                ('proofed_at', models.DateTimeField(blank=True, null=True)),
                ('well_known', models.BooleanField(default=False)),
                ('audit_key', models.BinaryField(default=consent.models.random_key)),
                ('passkeys_dropped_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('proofed_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('user', models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='patient', to=settings.AUTH_USER_MODEL)),
            ],
        ),
        migrations.AddField(
            model_name='consentrequest',
            name='patient',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='requests', to='consent.patient'),
        ),
        migrations.AddField(
            model_name='consent',
            name='patient',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='consents', to='consent.patient'),
        ),
        migrations.CreateModel(
            name='Representative',
            fields=[
                ('id', models.CharField(default=consent.models.random_id, editable=False, max_length=64, primary_key=True, serialize=False)),
                ('name', models.CharField(help_text='as the patient reads it', max_length=200)),
                ('role', models.CharField(choices=[('parent', 'Parent'), ('guardian', 'Guardian'), ('attorney', 'Attorney')], max_length=8)),
                ('scope', models.CharField(choices=[('see', 'See'), ('stop', 'Stop'), ('answer', 'Answer')], max_length=6)),
                ('kinds', models.JSONField(default=list, help_text='FHIR resource types they may give')),
                ('sensitive', models.JSONField(default=list, help_text='v3-ActCode sensitivity codes they may give')),
                ('checked_at', models.DateTimeField(auto_now_add=True)),
                ('starts', models.DateField()),
                ('ends', models.DateField(blank=True, help_text='the last day; none: until it is ended', null=True)),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
                ('ended_by', models.CharField(blank=True, choices=[('clinic', 'Clinic'), ('patient', 'Patient'), ('representative', 'Representative')], max_length=14)),
                ('invitation_digest', models.CharField(blank=True, db_index=True, max_length=64)),
                ('invitation_expires', models.DateTimeField(blank=True, null=True)),
                ('accepted_at', models.DateTimeField(blank=True, null=True)),
                ('told_at', models.DateTimeField(blank=True, null=True)),
                ('audit_key', models.BinaryField(default=consent.models.random_key)),
                ('checked_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('patient', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='representatives', to='consent.patient')),
                ('user', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='represents', to=settings.AUTH_USER_MODEL)),
            ],
        ),
        migrations.AddField(
            model_name='consent',
            name='representative',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.RESTRICT, related_name='consents', to='consent.representative'),
        ),
        migrations.AddField(
            model_name='consent',
            name='stopper',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.RESTRICT, related_name='+', to='consent.representative'),
        ),
        migrations.CreateModel(
            name='ReferralCode',
            fields=[
                ('digest', models.CharField(max_length=64, primary_key=True, serialize=False)),
                ('expires_at', models.DateTimeField()),
                ('used_at', models.DateTimeField(null=True)),
                ('patient', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='referral_codes', to='consent.patient')),
                ('requester', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='consent.requester')),
            ],
        ),
        migrations.AddField(
            model_name='consentrequest',
            name='requester',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='requests', to='consent.requester'),
        ),
        migrations.CreateModel(
            name='Scan',
            fields=[
                ('id', models.CharField(default=consent.models.random_id, editable=False, max_length=64, primary_key=True, serialize=False)),
                ('digest', models.CharField(help_text='SHA-256 of the file', max_length=64)),
                ('media_type', models.CharField(max_length=20)),
                ('size', models.PositiveIntegerField(help_text='bytes of the file')),
                ('sealed', models.BinaryField()),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('patient', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='scans', to='consent.patient')),
            ],
        ),
        migrations.AddField(
            model_name='representative',
            name='evidence',
            field=models.ForeignKey(on_delete=django.db.models.deletion.RESTRICT, related_name='representatives', to='consent.scan'),
        ),
        migrations.AddField(
            model_name='consent',
            name='scan',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.RESTRICT, related_name='consents', to='consent.scan'),
        ),
        migrations.CreateModel(
            name='News',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('question', 'Question'), ('sealed', 'Sealed'), ('not_sealed', 'Not Sealed'), ('stopped', 'Stopped'), ('written_down', 'Written Down'), ('use', 'Use'), ('blocked', 'Blocked'), ('result', 'Result'), ('emergency', 'Emergency'), ('copy', 'Copy'), ('passkeys', 'Passkeys'), ('way_back', 'Way Back'), ('acts_for', 'Acts For'), ('acts_no_more', 'Acts No More'), ('of_age', 'Of Age')], max_length=12)),
                ('about', models.CharField(blank=True, max_length=64)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('mail', models.CharField(choices=[('due', 'Due'), ('sent', 'Sent'), ('unwanted', 'Unwanted')], default='due', max_length=8)),
                ('letter', models.UUIDField(null=True)),
                ('tries', models.PositiveSmallIntegerField(default=0)),
                ('retry_at', models.DateTimeField(null=True)),
                ('sent_at', models.DateTimeField(null=True)),
                ('patient', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='news', to='consent.patient')),
            ],
            options={
                'verbose_name_plural': 'news',
                'indexes': [models.Index(fields=['patient', '-id'], name='news_of_patient'), models.Index(condition=models.Q(('mail', 'due')), fields=['patient', 'id'], name='news_due')],
            },
        ),
        migrations.CreateModel(
            name='Erasure',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.CharField(editable=False, max_length=64)),
                ('state', models.CharField(choices=[('asked', 'Asked'), ('confirmed', 'Confirmed'), ('due', 'Due'), ('done', 'Done'), ('refused', 'Refused')], default='asked', max_length=9)),
                ('hold', models.CharField(blank=True, choices=[('court', 'Court'), ('retention', 'Retention'), ('care', 'Care')], max_length=9)),
                ('asked_at', models.DateTimeField(auto_now_add=True)),
                ('settled_at', models.DateTimeField(null=True)),
                ('kek', models.CharField(blank=True, max_length=64)),
                ('backups_closed_at', models.DateTimeField(null=True)),
                ('asked_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('confirmed_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('second_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('patient', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='erasures', to='consent.patient')),
            ],
            options={
                'constraints': [models.UniqueConstraint(condition=models.Q(('state__in', ['asked', 'confirmed', 'due'])), fields=('patient',), name='one_erasure_at_a_time')],
            },
        ),
        migrations.CreateModel(
            name='Conflict',
            fields=[
                ('id', models.CharField(default=consent.models.random_id, editable=False, max_length=64, primary_key=True, serialize=False)),
                ('why', models.CharField(choices=[('held', 'Held'), ('overruled', 'Overruled'), ('stopped', 'Stopped')], max_length=9)),
                ('opened_at', models.DateTimeField(auto_now_add=True)),
                ('settled_at', models.DateTimeField(blank=True, null=True)),
                ('outcome', models.CharField(blank=True, choices=[('keep', 'Keep'), ('ask_anew', 'Ask Anew')], max_length=8)),
                ('reason', models.CharField(blank=True, max_length=300)),
                ('settled_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('no', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='consent.consent')),
                ('yes', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='conflicts', to='consent.consent')),
                ('patient', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='conflicts', to='consent.patient')),
            ],
            options={
                'indexes': [models.Index(fields=['patient', 'settled_at'], name='conflicts_of_patient'), models.Index(fields=['settled_at', 'opened_at'], name='open_conflicts')],
            },
        ),
        migrations.CreateModel(
            name='Progress',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('chosen', models.JSONField(default=dict, help_text='what was ticked: as services.grant takes it')),
                ('asked', models.JSONField(default=dict, help_text='teach-back question: how often it was asked')),
                ('understood', models.JSONField(default=list, help_text='teach-back questions that were answered right')),
                ('updated_at', models.DateTimeField(auto_now=True)),
                ('request', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='progress', to='consent.consentrequest')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('request', 'user'), name='one_progress')],
            },
        ),
        migrations.AddIndex(
            model_name='consentrequest',
            index=models.Index(fields=['patient', 'state'], name='consent_con_patient_3ab088_idx'),
        ),
        migrations.AddIndex(
            model_name='consentrequest',
            index=models.Index(fields=['state', 'review_by', 'id'], name='review_queue'),
        ),
        migrations.AddIndex(
            model_name='cohort',
            index=models.Index(fields=['state', 'created_at'], name='cohorts_waiting'),
        ),
        migrations.AddIndex(
            model_name='consent',
            index=models.Index(fields=['patient', 'decided_at'], name='consent_con_patient_a1bee3_idx'),
        ),
        migrations.AddIndex(
            model_name='consent',
            index=models.Index(fields=['request', 'ledger_state'], name='consent_con_request_d7ae20_idx'),
        ),
    ]
