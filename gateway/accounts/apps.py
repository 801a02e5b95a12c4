"""Django's name for this room, and what it listens to."""

from django.apps import AppConfig, apps


class AccountsConfig(AppConfig):
    name = "gateway.accounts"
    label = "accounts"

    def ready(self) -> None:
        from django.contrib.auth.signals import user_logged_in
        from django.db.models.signals import post_migrate

        from gateway.accounts.roles import make_groups
        from gateway.accounts.sign_in import record_sign_in

        # Once, when the last app has migrated: the permissions of those before it are there.
        *_, last = (app for app in apps.get_app_configs() if app.models_module)
        post_migrate.connect(make_groups, sender=last, dispatch_uid="staff roles")
        user_logged_in.connect(record_sign_in, dispatch_uid="signed in")
