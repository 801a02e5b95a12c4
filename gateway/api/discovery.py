"""Where things are, for clients that know the standards: SMART configuration, CapabilityStatement."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from gateway.accounts.key_sets import ASSERTIONS, names
from gateway.accounts.oauth import token_address
from gateway.accounts.scopes import OURS, PARAMETERS
from gateway.analysis.deidentify import RULES

FHIR_JSON = "application/fhir+json"


def base() -> str:
    return str(settings.PUBLIC_URL).rstrip("/")


@require_safe
def smart_configuration(request: HttpRequest) -> JsonResponse:
    """SMART App Launch 2.2, "Conformance": what a backend service needs, and no more."""
    told = {
        "token_endpoint": token_address(),
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": names(ASSERTIONS),
        "grant_types_supported": ["client_credentials"],
        "introspection_endpoint": f"{base()}/oauth/introspect",
        "revocation_endpoint": f"{base()}/oauth/revoke",
        "scopes_supported": [*OURS, "system/*.rs"],
        # Asked for by the standard of every server, used by none of our clients: nobody signs in here.
        "code_challenge_methods_supported": ["S256"],
        "capabilities": ["client-confidential-asymmetric", "permission-v1", "permission-v2"],
    }
    return JsonResponse(told)


@require_safe
def metadata(request: HttpRequest) -> JsonResponse:
    """The FHIR R4 CapabilityStatement."""
    return JsonResponse(capability_statement(), content_type=FHIR_JSON)


def capability_statement() -> dict[str, Any]:
    uris = {
        "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
        "extension": [{"url": "token", "valueUri": token_address()}],
    }
    service = {
        "coding": [
            {
                "system": "http://terminology.hl7.org/CodeSystem/restful-security-service",
                "code": "SMART-on-FHIR",
            }
        ]
    }
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": "2026-11-28",
        "kind": "instance",
        "software": {"name": "Consent Gateway", "version": "0.1.0"},
        "implementation": {"description": settings.CUSTODIAN, "url": f"{base()}/fhir"},
        "fhirVersion": "4.0.1",
        "format": ["json", FHIR_JSON],
        "instantiates": ["http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"],
        "rest": [
            {
                "mode": "server",
                "security": {"extension": [uris], "service": [service]},
                "resource": [
                    *(_resource(kind) for kind in sorted(RULES)),
                    _consent(),
                    _audit_event(),
                    _group(),
                ],
                "operation": [_export("export")],
            }
        ],
    }


def _resource(kind: str) -> dict[str, Any]:
    searches = [{"name": name, "type": "token"} for name in sorted(PARAMETERS)]
    return {
        "type": kind,
        "interaction": [{"code": "read"}, {"code": "search-type"}],
        "searchParam": [{"name": "patient", "type": "reference"}, *searches],
    }


def _consent() -> dict[str, Any]:
    return {
        "type": "Consent",
        "interaction": [{"code": "read"}, {"code": "search-type"}],
        "searchParam": [{"name": "identifier", "type": "token"}, {"name": "_id", "type": "token"}],
    }


def _audit_event() -> dict[str, Any]:
    return {
        "type": "AuditEvent",
        "interaction": [{"code": "search-type"}],
        "searchParam": [{"name": "patient", "type": "reference"}, {"name": "date", "type": "date"}],
    }


def _group() -> dict[str, Any]:
    return {
        "type": "Group",
        "interaction": [{"code": "read"}, {"code": "search-type"}],
        "operation": [_export("group-export")],
    }


def _export(name: str) -> dict[str, Any]:
    return {
        "name": "export",
        "definition": f"http://hl7.org/fhir/uv/bulkdata/OperationDefinition/{name}",
    }
