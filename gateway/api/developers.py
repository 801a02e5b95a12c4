"""`/developers/`: what an AI engineer reads, rendered from the OpenAPI document and the list of codes."""

from functools import cache
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator

from gateway.accounts.oauth import token_address
from gateway.accounts.scopes import OURS
from gateway.api.codes import CODES
from gateway.sandbox.catalogue import FAULTS, PEOPLE

# From nothing to a consented result; tests/api/test_quickstart.py runs them as they stand.
QUICKSTART = """\
consentctl login $URL --client $CLIENT --key $KEY
consentctl jobs submit --model $MODEL --purpose HRESCH --use HMB > job
consentctl jobs wait $(cat job)
consentctl jobs download $(cat job) results
"""
LIBRARY = """\
from os import environ

from consentctl import Gateway, Key

gateway = Gateway(environ["URL"], client=environ["CLIENT"], key=Key.read(environ["KEY"]))
job = gateway.submit(model=environ["MODEL"], purpose="HRESCH", use=["HMB"])
for subject, bundle in gateway.results(gateway.wait(job["id"])):
    print(subject, bundle["entry"][0]["resource"]["prediction"])
"""


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    return render(
        request,
        "developers/index.html",
        {"quickstart": QUICKSTART.strip(), "library": LIBRARY.strip(), "token_address": token_address(),
         "scopes": OURS, "operations": operations()},
    )  # fmt: skip


@require_safe
def operation(request: HttpRequest, id: str) -> HttpResponse:
    found = next((each for each in operations() if each["id"] == id), None)
    if found is None:
        raise Http404
    return render(request, "developers/operation.html", {"operation": found, "base": settings.PUBLIC_URL})


@require_safe
def sandbox(request: HttpRequest) -> HttpResponse:
    return render(request, "developers/sandbox.html", {"people": PEOPLE.values(), "faults": FAULTS})


@require_safe
def errors(request: HttpRequest) -> HttpResponse:
    return render(request, "developers/errors.html", {"codes": sorted(CODES.items())})


@require_safe
def error(request: HttpRequest, code: str) -> HttpResponse:
    """The page that the `type` of a problem leads to."""
    if code not in CODES:
        raise Http404
    return render(request, "developers/error.html", {"code": code, "found": CODES[code]})


@cache
def operations() -> list[dict[str, Any]]:
    """Each operation of the OpenAPI document, as its page shows it."""
    generator = SchemaGenerator()  # type: ignore[no-untyped-call]
    document: Any = generator.get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    schemas = document["components"]["schemas"]
    return [
        _operation(path, method, each, schemas)
        for path, methods in document["paths"].items()
        for method, each in methods.items()
        if "operationId" in each
    ]


def _operation(path: str, method: str, told: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    bodies: dict[str, Any] = told.get("requestBody", {}).get("content", {})
    body = next((each.get("schema") for each in bodies.values()), None)
    answers = [
        {"status": status, "members": _members(content.get("schema"), schemas), "media_type": media_type}
        for status, answer in told["responses"].items()
        if int(status) < 400
        for media_type, content in answer.get("content", {}).items()
    ]
    takes = _members(body, schemas)
    description = _plain(told.get("description", ""))
    headers = [each for each in told.get("parameters", ()) if each["in"] == "header"]
    return {
        "id": told["operationId"],
        "method": method.upper(),
        "path": path,
        "description": description,
        "summary": description.partition(". ")[0].rstrip(".") + ".",
        "parameters": [
            {"name": each["name"], "what": _plain(each.get("description", each["in"]))}
            for each in told.get("parameters", ())
        ],
        "takes": takes,
        "answers": answers,
        "errors": sorted(status for status in told["responses"] if int(status) >= 400),
        "curl": _curl(method.upper(), path, takes=bool(takes), keyed=bool(headers)),
    }


def _plain(markdown: str) -> str:
    """A description without the marks of code that it has in the document."""
    return markdown.replace("`", "")


def _members(schema: Any, schemas: dict[str, Any]) -> list[dict[str, Any]]:
    if not schema:
        return []
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    needed = schema.get("required", [])
    return [
        {
            "name": name,
            "kind": _kind(each, schemas),
            "needed": name in needed,
            "what": _plain(each.get("description", "")),
        }
        for name, each in schema.get("properties", {}).items()
    ]


def _kind(member: dict[str, Any], schemas: dict[str, Any]) -> str:
    """`string`, `array`, …, or the words that it may be."""
    (target, *_) = [each["$ref"] for each in (member, *member.get("allOf", ())) if "$ref" in each] or [""]
    found = schemas[target.rpartition("/")[2]] if target else member
    if "enum" in found:
        return ", ".join(str(each) for each in found["enum"])
    return str(found.get("type", "object"))


def _curl(method: str, path: str, *, takes: bool, keyed: bool) -> str:
    lines = [f"curl -s {settings.PUBLIC_URL.rstrip('/')}{path}", '-H "Authorization: Bearer $TOKEN"']
    if method != "GET":
        lines.insert(1, f"-X {method}")
    if keyed:
        lines.append('-H "Idempotency-Key: $(uuidgen)"')
    if takes:
        lines += ['-H "Content-Type: application/json"', "-d @body.json"]
    return " \\\n  ".join(lines)
