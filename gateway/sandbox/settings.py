"""The settings of the sandbox's processes: the product's and its switches. Never those of a production."""

from django.core.exceptions import ImproperlyConfigured

from gateway import settings as product
from gateway.settings import *  # noqa: F403

if product.PRODUCTION:
    raise ImproperlyConfigured("The sandbox moves clocks and breaks parts on purpose: never in production.")

ROOT_URLCONF = "gateway.sandbox.urls"
MIDDLEWARE = ["gateway.sandbox.faults.Slow", *product.MIDDLEWARE]
REST_FRAMEWORK = {**product.REST_FRAMEWORK, "DEFAULT_THROTTLE_CLASSES": ["gateway.sandbox.faults.Rate"]}
# A question reaches its patient at once: whoever tries things out plays both.
AUTO_APPROVE = True
