"""The contract's one refusal. Standard library only, like everything in this room."""


class Refused(Exception):
    """The contract refuses the transaction: nothing is committed.

    `code` is stable and lower-case with underscores (`consent_exists`); `message` is a sentence a
    person can act on and never holds a name, an identifier or a payload.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
