"""What the addresses of every room are made of."""

from django.urls import register_converter


class Hex64:
    """An id or a digest: 32 bytes in lower-case hex. Nothing else reaches a view, or the database."""

    regex = "[0-9a-f]{64}"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(Hex64, "hex64")


class Use(Hex64):
    """A use of somebody's records: what its steps share, or the number of its only step."""

    regex = "[0-9a-f]{64}|[1-9][0-9]{0,17}"


register_converter(Use, "use")
