"""The one settings file. Every value that an installation may change is an environment variable.

A secret may be given by value (`NAME`) or as a file (`NAME_FILE`); a file that is named and cannot
be read stops the start, loudly.
"""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from gateway.accounts.scopes import OURS
from ledger.channels import pairs

BASE_DIR = Path(__file__).resolve().parent.parent
HOME = Path(os.environ.get("GATEWAY_HOME", BASE_DIR / "var")).resolve()


def flag(name: str, default: bool) -> bool:
    return os.environ.get(name, "1" if default else "0").lower() in {"1", "true", "yes", "on"}


def secret(name: str) -> str | None:
    if path := os.environ.get(f"{name}_FILE"):
        try:
            return Path(path).read_text().strip()
        except OSError as error:
            raise ImproperlyConfigured(f"{name}_FILE cannot be read: {error.strerror}") from None
    return os.environ.get(name)


def mapping(name: str) -> dict[str, str]:
    """`one=this two=that`."""
    try:
        return pairs(os.environ.get(name, ""))
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}: {error}") from None


def identity_providers() -> list[dict[str, Any]]:
    """GATEWAY_OIDC is `slug=issuer …`; what else is known of a provider stands in GATEWAY_OIDC_<SLUG>_…."""
    found = []
    for slug, issuer in mapping("GATEWAY_OIDC").items():
        own = f"GATEWAY_OIDC_{slug.upper().replace('-', '_')}"
        found.append(
            {
                "slug": slug,
                "issuer": issuer,
                "name": os.environ.get(f"{own}_NAME", ""),
                "client_id": os.environ.get(f"{own}_CLIENT_ID", ""),
                "client_secret": secret(f"{own}_CLIENT_SECRET") or "",
                "acr": tuple(os.environ.get(f"{own}_SECOND_FACTOR_ACR", "").split()),
            }
        )
    return found


PRODUCTION = flag("GATEWAY_PRODUCTION", False)
DEBUG = flag("GATEWAY_DEBUG", False)


def installation_secret_key() -> str:
    """The key that `gateway/installation.py` made; commands that need no installation get a passing one."""
    try:
        return (HOME / "secret_key").read_text().strip()
    except OSError:
        if PRODUCTION:
            raise ImproperlyConfigured("Set GATEWAY_SECRET_KEY or GATEWAY_SECRET_KEY_FILE") from None
        return os.urandom(32).hex()


_given = secret("GATEWAY_SECRET_KEY")
SECRET_KEY_IS_GIVEN = bool(_given)
SECRET_KEY = _given or installation_secret_key()
ALLOWED_HOSTS = os.environ.get("GATEWAY_HOSTS", "localhost,127.0.0.1,[::1]").split(",")
PUBLIC_URL = os.environ.get("GATEWAY_URL", "http://localhost:8000")
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]

# The ledger, the keyholder and the broker: where they are, never what they hold.
LEDGER_URL = os.environ.get("LEDGER_URL", f"embedded://{HOME / 'ledger'}")
# Other channels than home, and whose patients are on which: by Patient.managingOrganization.
LEDGER_CHANNELS = mapping("LEDGER_CHANNELS")
PATIENT_CHANNELS = mapping("GATEWAY_PATIENT_CHANNELS")
PATIENT_CHANNEL = os.environ.get("GATEWAY_PATIENT_CHANNEL", "home")
KEYHOLDER_SOCKET = os.environ.get("KEYHOLDER_SOCKET", str(HOME / "keyholder" / "keyholder.sock"))
CUSTODIAN = os.environ.get("GATEWAY_CUSTODIAN", "Riverside Hospital")
# The audit log's name on the ledger. A log that was lost cannot be gone on with: the next one needs another.
AUDIT_ORIGIN = os.environ.get("GATEWAY_AUDIT_ORIGIN", CUSTODIAN)
# The log's checkpoints as signed notes (C2SP): its key's file and its name, who cosigns them (VKEY|URL,
# parted by spaces), who stamps their time (RFC 3161). Without a key there are none.
CHECKPOINT_KEY = os.environ.get("GATEWAY_CHECKPOINT_KEY", "")
CHECKPOINT_NAME = os.environ.get("GATEWAY_CHECKPOINT_NAME", f"{urlsplit(PUBLIC_URL).netloc}/audit")
WITNESSES = os.environ.get("GATEWAY_WITNESSES", "").split()
TIMESTAMP_URL = os.environ.get("GATEWAY_TIMESTAMP_URL", "")
# How often somebody else looks at what a member of staff may do.
ACCESS_REVIEW_DAYS = int(os.environ.get("GATEWAY_ACCESS_REVIEW_DAYS", "90"))
CUSTODIAN_ADDRESS = os.environ.get("GATEWAY_CUSTODIAN_ADDRESS", "")
JURISDICTION = os.environ.get("GATEWAY_JURISDICTION", "")
# From this birthday on nobody decides for a patient as a parent.
AGE_OF_MAJORITY = int(os.environ.get("GATEWAY_AGE_OF_MAJORITY", "18"))
HELP_PHONE = os.environ.get("GATEWAY_HELP_PHONE", "0800 555 0100")

INSTALLED_APPS = [
    "gateway.accounts",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "axes",
    "csp",
    "oauth2_provider",
    "rest_framework",
    "drf_spectacular",
    "ledger",
    "ledger.audit",
    "consent",
    "gateway",
    "gateway.records",
    "gateway.analysis",
    "gateway.emergency",
    "gateway.compliance",
    "gateway.portal",
    "gateway.staff",
    "gateway.api",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "gateway.nul.Refused",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "gateway.accounts.preferences.LanguageMiddleware",
    "gateway.accounts.sessions.Limits",
    "allauth.account.middleware.AccountMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "gateway.urls"
WSGI_APPLICATION = "gateway.wsgi.application"
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "gateway.portal.context.hospital",
                "gateway.staff.context.menu",
            ],
            "builtins": ["gateway.portal.tags"],
        },
    },
]


def database() -> dict[str, Any]:
    """PostgreSQL where DATABASE_URL (postgresql://user:password@host/name) says so, else SQLite."""
    if url := secret("DATABASE_URL"):
        from urllib.parse import parse_qs, unquote

        parts = urlsplit(url)
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": unquote(parts.path.lstrip("/")),
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "HOST": query.pop("host", parts.hostname or ""),
            "PORT": str(parts.port or ""),
            "OPTIONS": query,
            "CONN_MAX_AGE": 60,
            "CONN_HEALTH_CHECKS": True,
        }
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": HOME / "db.sqlite3",
        # To open it anew takes longer than most requests.
        "CONN_MAX_AGE": 60,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;",
        },
    }


DATABASES = {"default": database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# People
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
    "django.contrib.auth.backends.ModelBackend",
]
PASSWORD_HASHERS = [
    "gateway.accounts.passwords.Hasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",  # changed at the next sign-in
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/home"
ACCOUNT_LOGOUT_REDIRECT_URL = "/"
ACCOUNT_ADAPTER = "gateway.accounts.adapter.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_FORMS = {
    "login": "gateway.accounts.forms.LoginForm",
    "signup": "gateway.accounts.forms.SignupForm",
    "reset_password": "gateway.accounts.forms.ResetPasswordForm",
    "reset_password_from_key": "gateway.accounts.forms.ResetPasswordKeyForm",
    "change_password": "gateway.accounts.forms.ChangePasswordForm",
    "set_password": "gateway.accounts.forms.SetPasswordForm",
    "reauthenticate": "gateway.accounts.forms.ReauthenticateForm",
}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
# Whoever was invited signs in at once; a new password goes to an address that was confirmed (addresses.py).
ACCOUNT_EMAIL_VERIFICATION = "optional"
ACCOUNT_EMAIL_UNKNOWN_ACCOUNTS = False
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
# A session that was left open or stolen changes no email and no second factor.
ACCOUNT_REAUTHENTICATION_REQUIRED = True
# So many tries within so long, for each address (ip), account that is signed in (user), or name tried (key);
# counted by each web process. Wrong passwords are counted by axes as well, in the database, below.
ACCOUNT_RATE_LIMITS = {
    "login": "30/m/ip",
    "login_failed": "10/m/ip,5/300s/key",
    "signup": "20/m/ip",
    "reset_password": "20/m/ip,5/m/key",
    "reset_password_from_key": "20/m/ip",
    "change_password": "5/m/user",
    "reauthenticate": "10/m/user",
    "manage_email": "10/m/user",
    "confirm_email": "1/180s/key",
    "provider": "30/m/ip",  # gateway/accounts/oidc
    # Ways that are not open here: none at all, should one of them ever be.
    "request_login_code": "0/m/ip",
    "change_phone": "0/m/ip",
    "verify_phone": "0/m/ip",
}
MFA_ADAPTER = "gateway.accounts.adapter.MFAAdapter"
MFA_FORMS = {
    "activate_totp": "gateway.accounts.forms.ActivateTOTPForm",
    "authenticate": "gateway.accounts.forms.AuthenticateForm",
    "reauthenticate": "gateway.accounts.forms.ReauthenticateByCodeForm",
}
MFA_SUPPORTED_TYPES = ["webauthn", "totp", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
# Nobody signs up without an invitation, so an email that was not verified locks no stranger out.
MFA_ALLOW_UNVERIFIED_EMAIL = True
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not PRODUCTION
AXES_FAILURE_LIMIT = 10
AXES_USERNAME_CALLABLE = "gateway.accounts.sign_in.username_of"
AXES_LOCKOUT_CALLABLE = "gateway.accounts.sign_in.locked_out"
AXES_VERBOSE = False
AXES_COOLOFF_TIME = 0.25
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
# Those who sign in at an identity provider of the hospital's instead (docs/adr/0018-identity-providers.md).
OIDC_PROVIDERS = identity_providers()
AXES_SENSITIVE_PARAMETERS = ["login", "username", "email", "password"]

# Staff sign in with a second factor, and read each question before a patient does; a sandbox may leave it.
STAFF_SECOND_FACTOR = flag("GATEWAY_STAFF_SECOND_FACTOR", True)
AUTO_APPROVE = flag("GATEWAY_AUTO_APPROVE", False)

# How many emergency accesses may begin within an hour, where this installation starts the keyholder; 0: none.
EMERGENCIES_PER_HOUR = int(os.environ.get("GATEWAY_EMERGENCIES_PER_HOUR", "6"))

# How many own copies for patients without a passkey may begin within an hour, likewise; 0: none.
COPIES_PER_HOUR = int(os.environ.get("GATEWAY_COPIES_PER_HOUR", "20"))

# Sessions and browsers
# Whoever leaves a page open is signed out after so long without a click, and after so long in any case.
SESSION_IDLE_SECONDS = 60 * int(os.environ.get("GATEWAY_SESSION_IDLE_MINUTES", "30"))
SESSION_LONGEST_SECONDS = SESSION_COOKIE_AGE = 60 * 60 * 8
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PRODUCTION
SECURE_SSL_REDIRECT = PRODUCTION
SECURE_HSTS_SECONDS = 31_536_000 if PRODUCTION else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = PRODUCTION
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if flag("GATEWAY_BEHIND_PROXY", False) else None
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "object-src": [NONE],
    }
}

# Languages and time
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("es", "Español")]
LOCALE_PATHS = [BASE_DIR / "consent" / "locale"]
FORMAT_MODULE_PATH = ["gateway.formats"]
USE_I18N = USE_TZ = True
# Templates show 4,406; what goes into an address says `urlencode`, into a field `stringformat`.
USE_THOUSAND_SEPARATOR = True
TIME_ZONE = os.environ.get("GATEWAY_TIME_ZONE", "UTC")

# Files
STATIC_URL = "/static/"
STATIC_ROOT = HOME / "static"
STATICFILES_DIRS = [BASE_DIR / "templates" / "static"]
WHITENOISE_USE_FINDERS = not PRODUCTION
# In production `collectstatic` compresses them and names them by their content.
STATIC_STORAGE = "whitenoise.storage.CompressedManifestStaticFilesStorage"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": STATIC_STORAGE if PRODUCTION else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}

# AI clients
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["gateway.api.authentication.Bearer"],
    "DEFAULT_PERMISSION_CLASSES": ["gateway.api.permissions.IsAIClient"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "gateway.api.negotiation.AsAccepted",
    "URL_FORMAT_OVERRIDE": None,
    "DEFAULT_PARSER_CLASSES": ["gateway.api.parsers.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "gateway.api.problems.exception_handler",
    "DEFAULT_THROTTLE_CLASSES": ["gateway.api.throttling.EachClient"],
    "DEFAULT_THROTTLE_RATES": {
        "client": os.environ.get("GATEWAY_API_RATE", "1200/minute"),
        "summaries": os.environ.get("GATEWAY_SUMMARY_RATE", "10/minute"),
    },
    "UNAUTHENTICATED_USER": None,
}
# How often in a minute one client gets a token (good for five), and how often an address may fail to.
TOKENS_A_MINUTE = int(os.environ.get("GATEWAY_TOKEN_RATE", "120"))
TOKEN_FAILURES_A_MINUTE = int(os.environ.get("GATEWAY_TOKEN_FAILURE_RATE", "60"))
SPECTACULAR_SETTINGS = {
    "TITLE": "Consent Gateway",
    "DESCRIPTION": "Ask for consent, run AI jobs on what patients gave, fetch results.",
    "VERSION": "1.0.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "ENUM_NAME_OVERRIDES": {
        "ReviewState": "gateway.api.serializers.REVIEW_STATES",
        "JobState": "gateway.api.serializers.JOB_STATES",
        "SubjectState": "gateway.api.serializers.SUBJECT_STATES",
        "CallState": "gateway.api.serializers.CALL_STATES",
        "CohortState": "gateway.api.serializers.COHORT_STATES",
        "ModelState": "gateway.api.serializers.MODEL_STATES",
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "gateway.api.links.add_links",
    ],
}
OAUTH2_PROVIDER_APPLICATION_MODEL = "oauth2_provider.Application"
OAUTH2_PROVIDER = {
    "OAUTH2_VALIDATOR_CLASS": "gateway.accounts.oauth.ClientAssertionValidator",
    "ACCESS_TOKEN_EXPIRE_SECONDS": 300,
    "SCOPES": OURS,
    "DEFAULT_SCOPES": list(OURS),
    # RFC 9700: what a careful server does. Tokens are kept as digests, and travel in a header only.
    "COMPLIANT_BCP_RFC9700_IMPLICIT_GRANT": True,
    "COMPLIANT_BCP_RFC9700_PASSWORD_GRANT": True,
    "COMPLIANT_BCP_RFC9700_ACCESS_TOKEN_TRANSPORT": True,
    "COMPLIANT_BCP_RFC9700_TOKEN_STORAGE": True,
}
# Addresses that a client gave are called on the public internet alone, except these (host:port).
OUTBOUND_ALLOWED = [each for each in os.environ.get("GATEWAY_OUTBOUND_ALLOWED", "").split(",") if each]

# Jobs: the broker carries ids and nothing whose loss matters.
OWN_BROKER = HOME / "broker" / "broker.sock"
CELERY_BROKER_URL = secret("BROKER_URL") or f"redis+socket://{OWN_BROKER}"
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
JOB_LEASE_SECONDS = 60
# What one AI company may have under way, and ask of the API; and how long sealed results are kept.
JOBS_AT_ONCE = int(os.environ.get("GATEWAY_JOBS_AT_ONCE", "50"))
# No client is told of fewer of a cohort's patients than this, nor of a difference that would say as much.
COHORT_FEWEST = max(2, int(os.environ.get("GATEWAY_COHORT_FEWEST", "11")))
RESULT_DAYS = int(os.environ.get("GATEWAY_RESULT_DAYS", "30"))
EXPORT_HOURS = int(os.environ.get("GATEWAY_EXPORT_HOURS", "24"))
# No job is released when the relay has not stood at the ledger's end for so long; None: not asked (tests).
REPLAY_SECONDS: int | None = 60

EMAIL_BACKEND = os.environ.get("GATEWAY_EMAIL_BACKEND", "django.core.mail.backends.console.EmailBackend")
EMAIL_HOST = os.environ.get("GATEWAY_EMAIL_HOST", "localhost")
EMAIL_PORT = int(os.environ.get("GATEWAY_EMAIL_PORT", "25"))
EMAIL_HOST_USER = os.environ.get("GATEWAY_EMAIL_USER", "")
EMAIL_HOST_PASSWORD = secret("GATEWAY_EMAIL_PASSWORD") or ""
EMAIL_USE_TLS = flag("GATEWAY_EMAIL_TLS", False)
EMAIL_TIMEOUT = 10  # seconds
DEFAULT_FROM_EMAIL = os.environ.get("GATEWAY_EMAIL_FROM", "no-reply@localhost")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "gateway.logs.Line"}},
    "filters": {"without_path": {"()": "gateway.logs.WithoutPath"}},
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": "line"},
        "requests": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["without_path"]},
    },
    "root": {"handlers": ["stderr"], "level": os.environ.get("GATEWAY_LOG_LEVEL", "INFO")},
    "loggers": {
        "django.request": {"handlers": ["requests"], "level": "ERROR", "propagate": False},
        "django.security": {"handlers": ["requests"], "level": "WARNING", "propagate": False},
        "django.server": {"handlers": ["requests"], "level": "ERROR", "propagate": False},
        "axes": {"level": "ERROR"},
        "fido2": {"level": "WARNING"},  # else it names each passkey
    },
}
