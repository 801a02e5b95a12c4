"""The channels of one installation: a name for each ledger, and the connections, opened when first used.

`LEDGER_URL` is the channel `home`; `LEDGER_CHANNELS` names the others. A patient and all her consents are on
one channel (docs/adr/0010-channels.md).
"""

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from ledger.client import HOME, Ledger, Trust, connect, trust
from ledger.errors import LedgerError

__all__ = ["HOME", "Channel", "Channels", "named", "pairs", "told"]

_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")


def pairs(text: str) -> dict[str, str]:
    """`"one=this two=that"` as a mapping. Raises ValueError."""
    found: dict[str, str] = {}
    for one in text.split():
        name, equals, value = one.partition("=")
        if not equals or not name or not value or name in found:
            raise ValueError("Write NAME=VALUE, each name once, with spaces between them.")
        found[name] = value
    return found


def named(home: str, others: Mapping[str, str]) -> dict[str, str]:
    """Every channel's URL by its name, home first.

    Raises ValueError where a name is not lower-case letters, digits and hyphens (40 at most), is `home`, or
    two names mean one ledger.
    """
    if not all(_NAME.fullmatch(name) for name in others) or HOME in others:
        raise ValueError("A channel's name has lower-case letters, digits and hyphens, and is not home.")
    urls = {HOME: home, **others}
    if len(set(urls.values())) < len(urls):
        raise ValueError("Two channels have the same URL.")
    return urls


def told(channel: str) -> str | None:
    """How an audit row names a channel: home is not said."""
    return None if channel == HOME else channel


class Channel:
    """One channel: its name, its ledger as one identity, and whom we believe there. Safe for threads."""

    def __init__(self, name: str, ledger: Callable[[], Ledger], trust: Callable[[], Trust]) -> None:
        self.name = name
        self._connect, self._pinned = ledger, trust
        self._guard = threading.Lock()
        self._ledger: Ledger | None = None
        self._trust: Trust | None = None

    @property
    def ledger(self) -> Ledger:
        """Connected when it is first asked for."""
        with self._guard:
            if self._ledger is None:
                self._ledger = self._connect()
            return self._ledger

    @property
    def trust(self) -> Trust:
        with self._guard:
            if self._trust is None:
                self._trust = self._pinned()
            return self._trust

    def close(self) -> None:
        with self._guard:
            if self._ledger is not None:
                self._ledger.close()
                self._ledger = None


class Channels(Mapping[str, Channel]):
    """The channels by name. Raises LedgerError (`channel_unknown`) for a name that is not configured."""

    def __init__(self, channels: Mapping[str, Channel]) -> None:
        self._channels = dict(channels)

    @classmethod
    def open(cls, urls: Mapping[str, str], *, identity: str) -> "Channels":
        """Those of `named(…)`, as `identity`. Nothing is connected yet."""
        return cls(
            {
                name: Channel(name, partial(connect, url, identity=identity), partial(trust, url))
                for name, url in urls.items()
            }
        )

    @classmethod
    def single(cls, ledger: Ledger, trust: Trust) -> "Channels":
        """Home alone, over what is open already."""
        return cls({HOME: Channel(HOME, lambda: ledger, lambda: trust)})

    def __getitem__(self, name: str) -> Channel:
        try:
            return self._channels[name]
        except KeyError:
            raise LedgerError(
                "This channel is not configured here. Put it back into LEDGER_CHANNELS.",
                code="channel_unknown",
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._channels)

    def __len__(self) -> int:
        return len(self._channels)

    def __contains__(self, name: object) -> bool:
        return name in self._channels

    @property
    def home(self) -> Channel:
        return self[HOME]

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()
