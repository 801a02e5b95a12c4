"""One tree of errors for the whole product.

Every error has a stable `code` and a sentence a person can act on. None of them ever carries a
name, an identifier, a payload, a key or a token. Where the truth is unknown, the answer is no.
"""


class GatewayError(Exception):
    """The root. `status` is the HTTP status that the pages and the API answer with.

    `is_remote`: another process said it, in English; a page says it by its code (gateway/wording.py).
    """

    code = "error"
    status = 500
    is_remote = False

    def __init__(self, message: object, *, code: str | None = None) -> None:
        self.message = str(message)  # a message that waits for its language gets the one of this moment
        super().__init__(self.message)
        if code is not None:
            self.code = code


class RefusedTransition(GatewayError):
    """The state does not allow this act; nothing was committed (409)."""

    code = "refused"
    status = 409


class InvalidInput(GatewayError):
    """The input is malformed or out of range; nothing was changed (400)."""

    code = "invalid_input"
    status = 400


class AccessDenied(GatewayError):
    """The contract decided deny, and the denial is committed (staff 403, AI client `not_available`)."""

    code = "denied"
    status = 403


class LedgerError(GatewayError):
    """The ledger could not be asked, or did not agree (503). Tasks retry it."""

    code = "ledger_unavailable"
    status = 503


class PrepareError(LedgerError):
    """Stage 1, endorse: no endorsement could be had. Nothing was sent; safe to prepare again."""

    code = "ledger_prepare_failed"


class SignerUnavailable(PrepareError):
    """The key that signs for us cannot be used: an HSM is away or refuses. Nothing was signed or sent."""

    code = "signer_failed"


class SendError(LedgerError):
    """Stage 2, submit: the orderer did not take the envelope. Send the same envelope again."""

    code = "ledger_send_failed"


class OutcomeUnknown(LedgerError):
    """Stage 3, commit status: not known in time. Ask again, or send the same envelope again."""

    code = "ledger_outcome_unknown"


class NotCommitted(LedgerError):
    """Stage 4, commit: the transaction is in a block and invalid. `validity` says why, for ever.

    What lost to another transaction (`ledger.client.may_prepare_again`) is prepared again, with jitter.
    """

    code = "ledger_not_committed"

    def __init__(self, message: str, *, validity: str) -> None:
        super().__init__(message)
        self.validity = validity


class ProofError(LedgerError):
    """A signed answer does not hold: wrong nonce, key, signature, organisation or height."""

    code = "ledger_proof_failed"


class EnvelopeError(GatewayError):
    """A sealed thing does not open: wrong key, flipped byte, swapped chunk. An alarm (500)."""

    code = "envelope_tampered"
    status = 500


class KeyholderUnavailable(GatewayError):
    """The keyholder cannot be reached: nothing can be opened (503). Tasks retry it."""

    code = "keyholder_unavailable"
    status = 503
