"""What a page says of an error is in the reader's language; what a program reads is English."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import translation

from gateway.wording import OTHERWISE, WORDS, sentence
from ledger import errors, rpc
from ledger.errors import AccessDenied, GatewayError, KeyholderUnavailable, LedgerError, RefusedTransition
from ledger.webauthn import SignatureRefused
from tests.questions import ask, in_force
from tests.staff.conftest import member

__all__ = ["member"]  # a fixture

ROOT = Path(__file__).resolve().parents[1]
# Whose errors a page may show: rooms, and single files of those that mostly serve programs and workers.
ROOMS = (
    "consent", "gateway/accounts", "gateway/compliance", "gateway/emergency", "gateway/portal",
    "gateway/staff", "gateway/analysis/registrations.py", "gateway/analysis/results.py",
    "gateway/analysis/services.py", "gateway/records/clinical_labels.py", "gateway/records/own_copies.py",
)  # fmt: skip
# Of these, what speaks to programs and operators alone; oidc's pages go by an error's code.
NO_PAGE = (
    "gateway/accounts/assertions.py", "gateway/accounts/oauth.py", "gateway/accounts/oidc/",
    "gateway/accounts/scopes.py", "gateway/accounts/webhooks.py", "gateway/compliance/attesting.py",
)  # fmt: skip
# What a person reads, as files mark it.
SHOWN = re.compile(
    r'{% trans\w* "([^"]+)"|{% blocktrans.*?%}(.*?){% endblocktrans|_\(\s*"([^"]+)"', re.DOTALL
)
GETTEXT = {"_", "gettext", "gettext_lazy", "ngettext"}
BY_CODE = (LedgerError, KeyholderUnavailable, SignatureRefused)


def shown_as_they_are(files: list[Path]) -> set[str]:
    """The names of errors whose own sentence a page shows: the tree's, and those that these files define."""
    known = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}
    names = {name for name, kind in known.items() if not issubclass(kind, BY_CODE)}
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and names & {getattr(base, "id", "") for base in node.bases}:
                names.add(node.name)
    return names


def raised(path: Path, names: set[str]) -> Iterator[tuple[ast.Call, str]]:
    """Each call of one of `names`, with the code that it gives."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            code = next((each.value for each in node.keywords if each.arg == "code"), None)
            yield node, code.value if isinstance(code, ast.Constant) else ""


def is_translated(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        return is_translated(node.left)
    if isinstance(node, ast.Name):  # a constant of the module, marked where it stands
        return node.id.isupper()
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in GETTEXT


def test_what_services_refuse_is_translated() -> None:
    files = [
        path
        for room in ROOMS
        for path in ([ROOT / room] if room.endswith(".py") else (ROOT / room).rglob("*.py"))
        if not path.relative_to(ROOT).as_posix().startswith(NO_PAGE)
    ]
    names = shown_as_they_are(files)
    found = [(path, node) for path in files for node, _code in raised(path, names) if node.args]
    assert len(found) > 150
    english = [
        f"{path.relative_to(ROOT)}:{node.lineno}" for path, node in found if not is_translated(node.args[0])
    ]
    assert english == []


def test_what_another_process_refuses_to_a_person_has_words_here() -> None:
    """The keyholder's modules that answer people; what a door refuses to a worker reaches no page."""
    refusals = {"RefusedTransition", "AccessDenied", "SignatureRefused"}
    for name in ("clinicians", "copies", "emergencies", "erasure", "signing"):
        found = raised(ROOT / f"gateway/keyholder/{name}.py", refusals)
        assert {code for _, code in found if code} <= WORDS.keys(), name
    first = [node.args[0] for node, _ in raised(ROOT / "ledger/webauthn.py", {"_refuse"})]
    codes = {each.value for each in first if isinstance(each, ast.Constant)}
    assert "signature_wrong" in codes
    assert codes <= WORDS.keys()


def test_no_page_shows_what_an_error_says_by_itself() -> None:
    for folder, ending in (("templates", "*.html"), ("gateway/staff", "*.py"), ("gateway/portal", "*.py")):
        for path in (ROOT / folder).rglob(ending):
            assert "error.message" not in path.read_text(), path


def test_patients_read_of_a_record_book_and_staff_of_the_ledger() -> None:
    """docs/portal.md says why; what both can meet says neither."""
    shared = [*map(str, WORDS.values()), *(str(words) for _kind, words in OTHERWISE)]
    for folder, other in (("staff", "record book"), ("portal", "ledger")):
        files = [*(ROOT / "templates" / folder).rglob("*.html"), *(ROOT / "gateway" / folder).glob("*.py")]
        found = [each for path in files for each in SHOWN.findall(path.read_text())]
        assert len(found) > 50
        assert [each for each in (*found, *shared) if other in "".join(each).lower()] == []


@pytest.mark.parametrize("kind", [kind for kind, _words in OTHERWISE])
def test_an_error_from_beyond_is_said_in_the_readers_language(kind: type[GatewayError]) -> None:
    known = rpc._known(kind)
    told = {"class": known, "code": "no_such_code", "message": "Row 7 differs.", "status": 403}
    error = rpc._error_from_json(told)
    assert isinstance(error, GatewayError)
    in_english = sentence(error)
    assert "Row 7" not in in_english
    with translation.override("es"):
        assert sentence(error) not in (in_english, error.message)


def test_a_code_that_nobody_foresaw_is_named() -> None:
    error = rpc._error_from_json({"class": "RefusedTransition", "code": "odd", "message": "Odd."})
    assert isinstance(error, RefusedTransition)
    assert sentence(error) == "Our system refused this (odd)."
    assert sentence(RefusedTransition("Ours.", code="odd")) == "Ours."


def test_a_lazy_message_takes_the_language_of_its_moment() -> None:
    with translation.override("es"):
        error = AccessDenied(WORDS["access_ended"])
    assert error.message == "Este acceso se cerró."
    assert issubclass(AccessDenied, errors.GatewayError)


@pytest.mark.django_db
def test_a_refusal_on_the_staff_site_in_spanish(member: Callable[..., Client], helix: Any) -> None:
    amal = member("administrator")
    url = reverse("staff_resume_requester", args=[helix.pk])
    page = amal.post(url, headers={"accept-language": "es"})
    assert page.status_code == 409
    assert "Este proveedor no está suspendido. No se cambió nada." in page.content.decode()


@pytest.mark.django_db
def test_a_form_that_was_refused_in_spanish(member: Callable[..., Client], helix: Any) -> None:
    fields = {"name": helix.name, "contact": "a@b.example", "purposes": ["TREAT"]}
    page = member("administrator").post(
        reverse("staff_new_requester"), fields, headers={"accept-language": "es"}
    )
    assert "Ya hay un proveedor con este nombre." in page.content.decode()


@pytest.mark.django_db
def test_a_refusal_of_the_portal_in_spanish(
    client: Client, alice: Any, helix: Any, settings: Any, tmp_path: Path
) -> None:
    settings.KEYHOLDER_SOCKET = str(tmp_path / "nobody.sock")
    choice = in_force(ask(helix, alice))
    client.force_login(alice.user, backend="django.contrib.auth.backends.ModelBackend")
    page = client.get(reverse("signed_consent", args=[choice.pk]), headers={"accept-language": "es"})
    assert page.status_code == 503
    assert "No alcanzamos la parte de nuestro sistema que guarda las claves." in page.content.decode()


@pytest.mark.parametrize("path", ["/api/v1/jobs", "/api/v1/none", "/fhir/Observation", "/fhir/none/1/2"])
@pytest.mark.django_db
def test_programs_read_english(client: Client, path: str) -> None:
    answers = {
        language: client.get(path, headers={"accept-language": language}).json() for language in ("en", "es")
    }
    for answer in answers.values():
        answer.pop("request_id", None)
        for issue in answer.get("issue", ()):
            issue.pop("diagnostics")
    assert answers["en"] == answers["es"]
