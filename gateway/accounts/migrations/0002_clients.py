"""AI companies' clients and webhooks, and people's identities at other providers."""

import django.db.models.deletion
import uuid
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    replaces = [
        ('accounts', '0006_webhooks'),
        ('accounts', '0007_passkeys'),
        ('accounts', '0008_webhook_turns'),
        ('accounts', '0009_identity_providers'),
    ]

    dependencies = [
        ('accounts', '0001_users'),
        ('consent', '0001_tables'),
        migrations.swappable_dependency(settings.OAUTH2_PROVIDER_APPLICATION_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='AIClient',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('jwks', models.JSONField(blank=True, help_text='JWK set (RFC 7517), public keys only', null=True, verbose_name='key set')),
                ('jwks_url', models.CharField(blank=True, help_text='https, instead of a key set', max_length=500, verbose_name='address of its key set')),
                ('application', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='ai_client', to=settings.OAUTH2_PROVIDER_APPLICATION_MODEL)),
                ('requester', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='clients', to='consent.requester')),
            ],
            options={
                'verbose_name': 'AI client',
            },
        ),
        migrations.CreateModel(
            name='Webhook',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('url', models.CharField(max_length=500)),
                ('events', models.JSONField()),
                ('secret', models.BinaryField()),
                ('served_at', models.DateTimeField(editable=False, null=True)),
                ('failures', models.PositiveIntegerField(default=0, editable=False)),
                ('rests_until', models.DateTimeField(editable=False, null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('requester', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='webhooks', to='consent.requester')),
            ],
        ),
        migrations.CreateModel(
            name='ProviderIdentity',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('issuer', models.CharField(max_length=255)),
                ('subject', models.CharField(max_length=255)),
                ('linked_at', models.DateTimeField(auto_now_add=True)),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='identities', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('issuer', 'subject'), name='one_account_of_an_identity'), models.UniqueConstraint(fields=('issuer', 'user'), name='one_identity_at_a_provider')],
            },
        ),
        migrations.CreateModel(
            name='UsedAssertion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('jti_digest', models.CharField(max_length=64)),
                ('expires_at', models.DateTimeField(db_index=True)),
                ('client', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.aiclient')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('client', 'jti_digest'), name='one_use_of_an_assertion')],
            },
        ),
        migrations.CreateModel(
            name='WebhookCall',
            fields=[
                ('id', models.CharField(max_length=32, primary_key=True, serialize=False)),
                ('event', models.CharField(max_length=30)),
                ('body', models.JSONField()),
                ('state', models.CharField(choices=[('pending', 'Pending'), ('delivered', 'Delivered'), ('failed', 'Failed')], default='pending', max_length=10)),
                ('tries', models.PositiveSmallIntegerField(default=0)),
                ('status', models.PositiveSmallIntegerField(default=0)),
                ('next_at', models.DateTimeField()),
                ('tried_at', models.DateTimeField(null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('webhook', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='calls', to='accounts.webhook')),
            ],
            options={
                'indexes': [models.Index(fields=['state', 'next_at'], name='webhook_calls_due')],
            },
        ),
    ]
