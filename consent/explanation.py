"""Plain words: what a patient reads instead of FHIR's, and how hard a text is to read.

The reader may be worried, unwell, nine years into learning the language, or all three. So: sentences
of at most 20 words, active voice, one thing at a time.
"""

import re
from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from ledger.contract import duo

LONGEST_SENTENCE = 20  # words


@dataclass(frozen=True)
class Kind:
    """A kind of record in plain words: its name, and one line that says what is in it."""

    name: Promise
    about: Promise


# FHIR R4 resource type -> what a patient calls it. A type that is not here cannot be asked for.
KINDS: dict[str, Kind] = {
    "Patient": Kind(_("About you"), _("Your age, sex and where you live")),
    "Observation": Kind(_("Test results"), _("Blood tests, blood pressure and other checks")),
    "MedicationRequest": Kind(_("Medicines"), _("What you take now and took before")),
    "MedicationStatement": Kind(_("Medicines you told us about"), _("What you say you take")),
    "MedicationAdministration": Kind(_("Medicines given to you"), _("Doses that a nurse or doctor gave you")),
    "Condition": Kind(_("Health problems"), _("Problems that you have now or had before")),
    "Procedure": Kind(_("Treatments"), _("Operations and other care")),
    "Immunization": Kind(_("Vaccines"), _("The jabs that you have had")),
    "AllergyIntolerance": Kind(_("Allergies"), _("What your body does not cope with")),
    "DiagnosticReport": Kind(_("Test reports"), _("What the lab or scan team wrote")),
    "ImagingStudy": Kind(_("Scans"), _("X-rays and other pictures of your body")),
    "DocumentReference": Kind(_("Clinic letters"), _("Letters from and to the clinic")),
    "Encounter": Kind(_("Visits"), _("When you came and why")),
    "CarePlan": Kind(_("Care plans"), _("What you and your team plan to do")),
    "CareTeam": Kind(_("Care team"), _("Who looks after you")),
    "Goal": Kind(_("Health goals"), _("What you want to reach")),
    "FamilyMemberHistory": Kind(_("Family health"), _("Health problems in your family")),
    "Device": Kind(_("Devices"), _("Things like a pacemaker or a pump")),
    "Claim": Kind(_("Bills"), _("What the clinic asked your insurer to pay")),
    "ExplanationOfBenefit": Kind(_("Insurance"), _("What your insurer paid")),
    "QuestionnaireResponse": Kind(_("Forms"), _("Answers that you gave on a form")),
}

# v3-ActCode sensitivity code -> what a patient calls it. We ask about each of these on its own.
SENSITIVE: dict[str, Kind] = {
    "PSY": Kind(_("Mental health"), _("Notes on your mind and mood")),
    "ETH": Kind(_("Drug and alcohol care"), _("Care for drink or drug use")),
    "ETHUD": Kind(_("Alcohol care"), _("Care for drink use")),
    "OPIOIDUD": Kind(_("Opioid care"), _("Care for the use of strong pain drugs")),
    "HIV": Kind(_("HIV"), _("HIV tests and care")),
    "SEX": Kind(_("Sexual health"), _("Sexual health and birth control")),
    "SDV": Kind(_("Abuse at home"), _("Care after someone hurt you")),
    "GDIS": Kind(_("Gene tests"), _("What your genes say about your health")),
}

# v3-ActReason code -> why somebody asks.
PURPOSES: dict[str, Promise] = {
    "TREAT": _("To care for you"),
    "CAREMGT": _("To plan your care"),
    "CLINTRCH": _("To test a new treatment"),
    "HRESCH": _("To learn more about health"),
    "BIORCH": _("To learn more about the body"),
    "PUBHLTH": _("To keep people healthy"),
    "HOPERAT": _("To run the clinic better"),
    "HPAYMT": _("To settle bills"),
    "HMARKT": _("To sell you things"),
    "PATRQT": _("Because you asked"),
}

# GA4GH DUO codes that a request may name.
USES = duo.PERMISSIONS | duo.CONDITIONS

_WORD = re.compile(r"[A-Za-zÀ-ÿ0-9][A-Za-zÀ-ÿ0-9'’-]*")
_VOWELS = re.compile(r"[aeiouy]+")
# An e that is not spoken: "take", "used", "notes", but "little", "wanted", "changes".
_SILENT_END = re.compile(r"(?<=[^aeiouy])(?:(?<!l)e|(?<![td])ed|(?<![sczxgl])(?<![cs]h)es)$")
_SENTENCE_END = re.compile(r"(?<=[.!?:])\s+|\n+")


def words(text: str) -> list[str]:
    return _WORD.findall(text)


def sentences(text: str) -> list[str]:
    """Sentences of `text`; a line break ends one too, as in a list or a heading."""
    return [part.strip() for part in _SENTENCE_END.split(text) if words(part)]


def syllables(word: str) -> int:
    """Syllables of an English word, by its groups of vowels; at least one."""
    word = word.lower()
    groups = len(_VOWELS.findall(word))
    return max(1, groups - 1 if _SILENT_END.search(word) else groups)


def reading_grade(text: str) -> float:
    """The Flesch–Kincaid grade of an English text: 0.39 words/sentence + 11.8 syllables/word − 15.59.

    Kincaid et al. 1975, "Derivation of new readability formulas". A text without words has grade 0.
    """
    found, count = sentences(text), len(words(text))
    if not count:
        return 0.0
    spoken = sum(syllables(word) for word in words(text))
    return 0.39 * count / len(found) + 11.8 * spoken / count - 15.59


_VOWELS_ES = re.compile(r"[aeiouáéíóúü]+(?:y\b)?|\by\b")
# Each of these is the middle of a syllable of its own; i, o and u beside them, without an accent, are not.
_NUCLEUS_ES = re.compile(r"[aeoáéóíú]")


def syllables_es(word: str) -> int:
    """Syllables of a Spanish word: each strong or accented vowel, each group of weak ones; at least one."""
    groups = _VOWELS_ES.findall(word.lower())
    return max(1, sum(len(_NUCLEUS_ES.findall(group)) or 1 for group in groups))


def reading_ease_es(text: str) -> float:
    """How easy a Spanish text is: 206.84 − 60 syllables/word − 1.02 words/sentence; 70 is the sixth grade.

    Fernández Huerta 1959, "Medidas sencillas de lecturabilidad". A text without words is as easy as can be.
    """
    found, count = sentences(text), len(words(text))
    if not count:
        return 206.84
    spoken = sum(syllables_es(word) for word in words(text))
    return 206.84 - 60 * spoken / count - 1.02 * count / len(found)


def longest_sentence(text: str) -> int:
    """Words in the longest sentence of `text`."""
    return max((len(words(sentence)) for sentence in sentences(text)), default=0)


def error_sentence(*, people: int, wrong: int) -> str:
    """What a test found, out of every 100, rounded up: a patient must not read less than was measured."""
    of_100 = -(-100 * wrong // people)
    return f"In a test by the clinic, the program was wrong for {of_100} out of every 100 people."
