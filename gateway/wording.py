"""What a page says of an error, in the reader's language.

A service of ours says its own refusals by gettext. The keyholder and the ledger are other processes that know
no reader: what they refuse is said here, by its code.
"""

from collections.abc import Mapping

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from ledger.errors import AccessDenied, EnvelopeError, GatewayError, KeyholderUnavailable, LedgerError
from ledger.webauthn import SignatureRefused

_SIGNATURE = _("The signature of the passkey does not hold. Try again.")

WORDS: Mapping[str, Promise] = {
    # Emergencies and own copies
    "access_unknown": _("No such access was asked for."),
    "access_differs": _("This access was asked for before, in another way."),
    "access_ended": _("This access was ended."),
    "access_expired": _("The hour is over."),
    "access_expiry": _("Too much time has passed. Begin again."),
    "emergency_differs": _("What was signed and what was sent do not agree. Begin again."),
    "emergency_signature_missing": _(
        "The signature of whoever opened this is not kept any more. Tell the operator."
    ),
    "emergency_unsigned": _(
        "Here an emergency needs the signature of your own passkey."
        " Add one in your settings, or ask a colleague who has one."
    ),
    "emergency_passkey_last": _(
        "Only this passkey confirms your emergencies. Add another one that does, or ask the operator."
    ),
    "emergencies_off": _("Emergency access is turned off here."),
    "emergencies_too_many": _("Too many emergencies began within the hour. Ask the operator to allow more."),
    "copies_too_many": _("Too many copies were asked for within the hour. Try again later."),
    # Passkeys and what they sign
    "draft_unknown": _("What was signed is not known any more. Open the page again."),
    "not_signed": _("This was not signed with a passkey."),
    "passkey_differs": _("This passkey was removed before, or is known otherwise. Use another one."),
    "passkey_last": _("This is the only passkey that signs. Add another one first."),
    "passkey_not_signing": _("This passkey does not sign yet, or was removed. Use another one."),
    "passkey_unknown": _("This passkey is not known."),
    "passkeys_too_many": _("There are too many passkeys."),
    "consent_differs": _("This choice was kept before, and it said something else."),
    "signature_challenge": _("This signature is for something else. Open the page again."),
    "signature_key": _("This passkey cannot sign here. Use another one."),
    "signature_malformed": _SIGNATURE,
    "signature_missing": _("This needs the patient's own signature."),
    "signature_origin": _("This was signed on another site."),
    "signature_presence": _("Nobody touched the passkey. Try again."),
    "signature_site": _("This passkey was made for another site."),
    "signature_type": _SIGNATURE,
    "signature_verification": _("The passkey did not check who used it. Try again."),
    "signature_wrong": _SIGNATURE,
    "signing_quiet": _("The passkeys were reset. Try again a day later."),
    "voucher_missing": _("This needs the signature of a passkey that signs already."),
    # Consents and records
    "chunk_unknown": _("Some records cannot be found. Tell the operator."),
    "consent_denies": _("The patient said no to this."),
    "consent_expired": _("The patient's yes has ended."),
    "consent_revoked": _("The patient stopped sharing."),
    "consent_stopped": _("The patient stopped sharing."),
    "erasures_exceeded": _("Enough patients were erased for today. Try again tomorrow."),
    "patient_unknown": _("Nothing is kept for this patient."),
    # The machines
    "clock_went_back": _("The clock of this system is wrong. Tell the operator."),
    "ledger_went_back": _("What was sealed is older than what we saw before. Tell the operator."),
    "store_unwritable": _("There is no room to write this down. Tell the operator."),
}

# By kind, the first that fits, for a code that stands above in no line.
OTHERWISE: tuple[tuple[type[GatewayError], Promise], ...] = (
    (KeyholderUnavailable, _("We cannot reach the part of our system that holds the keys. Try again soon.")),
    (LedgerError, _("We cannot reach the place where choices are sealed. Try again soon.")),
    (SignatureRefused, _SIGNATURE),
    (AccessDenied, _("The sealed choices do not allow this.")),
    (EnvelopeError, _("Something that is kept sealed does not open. Tell us.")),
)


def sentence(error: GatewayError) -> str:
    """One sentence or two. A code that nobody foresaw stands at the end of a plain one, to be told to us."""
    if not (error.is_remote or isinstance(error, LedgerError | KeyholderUnavailable | SignatureRefused)):
        return error.message
    if error.code in WORDS:
        return str(WORDS[error.code])
    for kind, words in OTHERWISE:
        if isinstance(error, kind):
            return str(words)
    return _("Our system refused this (%(code)s).") % {"code": error.code}
