"""English and Spanish are whole: every string, every notice, every date, and as easy to read."""

import re
from datetime import date
from typing import Any

import pytest
from babel.messages.catalog import Message
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import translation

from consent import notices
from consent.explanation import longest_sentence, reading_ease_es, syllables_es
from consent.models import Notice
from deploy import messages
from gateway.portal.context import whole
from tests.portal.test_reading import text_of
from tests.questions import ask

OTHERS = [code for code, _ in settings.LANGUAGES if code != settings.LANGUAGE_CODE]
TEXTS = sorted(notices.TEXTS.glob("*.en.txt"))
# Fernández Huerta 1959: 70 and more is what the sixth grade reads.
EASY = 70


def test_the_tool_knows_the_languages_of_the_product() -> None:
    assert list(messages.LANGUAGES) == OTHERS


@pytest.mark.parametrize("language", OTHERS)
def test_nothing_is_left_untranslated(language: str) -> None:
    translated = {(each.id, each.context) for each in messages.read(language) if each.id}
    wanted = {(each.id, each.context) for each in messages.source() if each.id}
    assert translated == wanted, "run make messages"
    assert [each.id for each in messages.missing(messages.read(language))] == []


@pytest.mark.parametrize("language", OTHERS)
def test_placeholders_agree(language: str) -> None:
    catalog = messages.read(language)
    assert [(each.id, [str(error) for error in errors]) for each, errors in catalog.check()] == []
    for message in catalog:
        if message.id:
            for text, original in zip(strings(message), originals(message), strict=True):
                assert placeholders(text) == placeholders(original), message.id


def placeholders(text: str) -> set[str]:
    return set(re.findall(r"%\([a-z_]+\)[sd]|<[^>]+>", text))


def strings(message: Message) -> list[str]:
    return [message.string] if isinstance(message.string, str) else list(message.string)


def originals(message: Message) -> list[str]:
    """The English of each string: the singular, then as many plurals as the language has."""
    if isinstance(message.id, str):
        return [message.id]
    return [message.id[0], *[message.id[1]] * (len(message.string) - 1)]


@pytest.mark.parametrize("language", OTHERS)
def test_the_compiled_catalogue_is_the_written_one(language: str) -> None:
    compiled = messages.po_file(language).with_suffix(".mo").read_bytes()
    assert compiled == messages.compiled(messages.read(language)), "run make messages"


@pytest.mark.django_db
@pytest.mark.parametrize("language", OTHERS)
@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_each_notice_is_there_in_the_same_version(path: Any, language: str) -> None:
    slug = path.name.removesuffix(".en.txt")
    english = notices.current(slug)
    other = notices.in_language(english, language)
    assert (other.language, other.version) == (language, english.version)
    assert other.digest != english.digest
    assert other.text.count("\n\n") == english.text.count("\n\n")
    assert Notice.objects.filter(slug=slug).count() == 2


def test_syllables() -> None:
    words = {
        "sí": 1, "día": 2, "leer": 2, "ciudad": 2, "guion": 1, "muy": 1, "y": 1, "quiere": 2, "también": 2,
        "antigüedad": 4, "hospital": 3, "decisión": 3, "ayuda": 3, "países": 3,
    }  # fmt: skip
    assert {word: syllables_es(word) for word in words} == words


def test_a_hard_text_is_hard() -> None:
    hard = "La instrumentalización interdisciplinaria imposibilita consideraciones extraordinariamente."
    assert reading_ease_es(hard) < 0
    assert reading_ease_es("Usted puede parar. No pasa nada.") > 80


@pytest.mark.django_db
@pytest.mark.parametrize("layer", [1, 2])
def test_layers_1_and_2_in_spanish(alice: Any, helix: Any, layer: int) -> None:
    question = ask(
        helix,
        alice,
        what_for="Usar un programa informático para ver su riesgo del corazón.",
        who_sees="Su médico de la clínica del corazón. Una persona revisa cada resultado.",
        what_can_go_wrong="El programa se equivoca en 8 de cada 100 personas.",
    )
    html = in_spanish(alice.user, reverse("question", args=[question.id]))
    start = html.index(f'<div id="layer-{layer}">')
    end = html.index('<div id="layer-2">') if layer == 1 else html.index("Leer el texto completo")
    text = text_of(html[start:end])
    assert len(text.split()) > 40
    assert reading_ease_es(text) >= EASY
    assert longest_sentence(text) <= 20


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["start", "help", "home", "choices", "access"])
def test_other_pages_in_spanish(alice: Any, name: str) -> None:
    html = in_spanish(alice.user, reverse(name))
    text = text_of(html[html.index("<main") : html.index("</main>")])
    assert 'lang="es"' in html
    assert reading_ease_es(text) >= EASY
    for word in ("artefacto", "revocar", "procesamiento", "consentimiento", "¿Está seguro"):
        assert word not in text


def in_spanish(user: Any, path: str) -> str:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client.get(path, headers={"accept-language": "es"}).content.decode()


def test_no_date_is_made_by_hand() -> None:
    """A format of Django's own for each language, and no other."""
    named = re.compile(r"\|\s*(?:date|time)(?::\"([^\"]*)\")?")
    for path in (messages.ROOT / "templates").rglob("*.html"):
        for found in named.finditer(path.read_text()):
            assert found[1] is None or re.fullmatch(r"[A-Z_]+_FORMAT|c", found[1]), (path.name, found[0])


def test_dates_in_spanish() -> None:
    from django.utils.formats import date_format

    with translation.override("es"):
        assert date_format(date(2026, 5, 4), "DATE_FORMAT") == "4 de mayo de 2026"


def test_a_phone_number_keeps_its_order_from_right_to_left_and_its_line() -> None:
    assert whole("0800 555 0100") == '<bdi class="gw-whole" dir="ltr">0800 555 0100</bdi>'
