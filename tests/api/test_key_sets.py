"""Key sets at a client's own address: fetched, kept, rotated by `kid`; and no address reaches our network."""

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.cache import cache

from consent.models import Requester
from gateway.accounts import clients, key_sets, outbound
from ledger.audit.log import Actor
from ledger.errors import GatewayError, InvalidInput
from tests.signing import ask_for_token, assertion, claims, key_set, new_key


class Site(http.server.ThreadingHTTPServer):
    """What a client's own server answers; `asked` counts."""

    daemon_threads = True
    answer: tuple[int, dict[str, str], bytes] = (200, {}, b"{}")
    asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/jwks.json"

    def serve_keys(self, *keys: Any) -> None:
        self.answer = (200, {}, json.dumps(key_set(*keys)).encode())


class Handler(http.server.BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.asked += 1
        status, headers, body = self.server.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        return


@pytest.fixture
def site(settings: Any) -> Iterator[Site]:
    cache.clear()
    with Site(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        settings.OUTBOUND_ALLOWED = [f"127.0.0.1:{found.server_port}"]
        yield found
        found.shutdown()


@pytest.fixture
def registered(site: Site, helix: Requester) -> str:
    made = clients.register(requester=helix, by=Actor.staff(1), jwks_url=site.url)
    return str(made.application.client_id)


def test_the_set_is_read_once_for_many_tokens(site: Site, registered: str) -> None:
    key = new_key("one", "RSA")
    site.serve_keys(key)
    for _ in range(3):
        assert ask_for_token(assertion(key, claims(registered))).status_code == 200
    assert site.asked == 1


def test_jku_is_taken_where_it_is_the_registered_address(site: Site, registered: str) -> None:
    key = new_key("one")
    site.serve_keys(key)
    assert ask_for_token(assertion(key, claims(registered), jku=site.url)).status_code == 200
    elsewhere = site.url + "?other"
    assert ask_for_token(assertion(key, claims(registered), jku=elsewhere)).status_code == 401


def test_a_new_kid_is_looked_for_and_not_at_every_request(
    site: Site, registered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = new_key("old"), new_key("new")
    site.serve_keys(old)
    assert ask_for_token(assertion(old, claims(registered))).status_code == 200
    site.serve_keys(new)
    assert ask_for_token(assertion(new, claims(registered))).status_code == 401
    assert site.asked == 1
    monkeypatch.setattr(key_sets, "READ_AGAIN_SECONDS", 0)
    assert ask_for_token(assertion(new, claims(registered))).status_code == 200
    assert ask_for_token(assertion(old, claims(registered))).status_code == 401


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("max-age=30, must-revalidate", 30),
        ("", 300),
        ("public, max-age=1200", 1200),
        ("max-age=999999999", 3600),
    ],
)
def test_the_set_is_kept_as_its_server_says_and_an_hour_at_most(
    site: Site, registered: str, monkeypatch: pytest.MonkeyPatch, told: str, kept: int
) -> None:
    key, now = new_key("one"), [time.time()]
    monkeypatch.setattr("gateway.accounts.key_sets.time", SimpleNamespace(time=lambda: now[0]))
    site.serve_keys(key)
    site.answer = (200, {"Cache-Control": told}, site.answer[2])
    for later, asked in ((0, 1), (kept - 1, 1), (2, 2)):
        now[0] += later
        assert ask_for_token(assertion(key, claims(registered))).status_code == 200
        assert site.asked == asked


@pytest.mark.parametrize("told", ["no-store", "no-cache", "max-age=0"])
def test_a_set_that_is_not_to_be_kept_is_read_each_time(site: Site, registered: str, told: str) -> None:
    key = new_key("one")
    site.serve_keys(key)
    site.answer = (200, {"Cache-Control": told}, site.answer[2])
    for asked in (1, 2):
        assert ask_for_token(assertion(key, claims(registered))).status_code == 200
        assert site.asked == asked


def test_made_up_kids_make_nobody_ask_more_than_once_a_minute(site: Site, registered: str) -> None:
    """Anybody may send them in a client's name, and its server must not be ours to hammer."""
    key = new_key("one")
    site.serve_keys(key)
    for number in range(5):
        assert ask_for_token(assertion(new_key(f"made-up-{number}"), claims(registered))).status_code == 401
    assert ask_for_token(assertion(key, claims(registered))).status_code == 200
    assert site.asked == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((404, {}, b"{}"), "did not answer with 200"),
        ((302, {"Location": "http://169.254.169.254/"}, b""), "did not answer with 200"),
        ((200, {}, b"<html>"), "not JSON"),
        ((200, {}, b"[]"), "A key set is"),
        ((200, {}, b" " * (1 << 18)), "too long"),
    ],
)
def test_an_address_that_answers_wrongly_gets_no_token(
    site: Site, registered: str, answer: Any, said: str
) -> None:
    site.answer = answer
    refused = ask_for_token(assertion(new_key(), claims(registered)))
    assert refused.status_code == 401
    assert said in refused.json()["error_description"]


def test_an_address_that_fails_is_not_asked_at_every_request(site: Site, registered: str) -> None:
    """Whoever knows a client's id may send assertions: each would hold a thread for as long as it hangs."""
    site.answer = (404, {}, b"{}")
    for _ in range(3):
        assert ask_for_token(assertion(new_key(), claims(registered))).status_code == 401
    assert site.asked == 1


class Slow(http.server.BaseHTTPRequestHandler):
    """A header every 50 ms, ninety of them, and then a good answer; `ended`: it came so far."""

    ended = threading.Event()

    def do_GET(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n")
        with contextlib.suppress(OSError):
            for _ in range(90):
                self.wfile.write(b"X: y\r\n")
                time.sleep(0.05)
            self.wfile.write(b"\r\n")
            self.ended.set()

    def log_message(self, *args: Any) -> None:
        return


def test_an_answer_that_comes_drop_by_drop_is_given_up(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbound, "SECONDS", 0.5)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as slow:
        slow.daemon_threads = True
        threading.Thread(target=slow.serve_forever, daemon=True).start()
        settings.OUTBOUND_ALLOWED = [f"127.0.0.1:{slow.server_port}"]
        with pytest.raises(outbound.Unreachable):
            outbound.call(f"http://127.0.0.1:{slow.server_port}/")
        assert not Slow.ended.is_set()
        slow.shutdown()


@pytest.mark.parametrize(
    "url",
    [
        "http://helix.example/jwks.json",
        "ftp://helix.example/jwks.json",
        "file:///etc/passwd",
        "https://user:secret@helix.example/",
        "https:///jwks.json",
        "https://helix.example/#part",
        "https://helix.example:99999/",
        "https://helix.example/\r\nHost: other",
        "https://hélix.example/",
        "https://helix.example/" + "x" * 500,
        "https://[::1/",
        "http://127.0.0.1:8000/",
        "",
    ],
)
def test_what_is_no_address_of_the_open_internet(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        outbound.check_address(url)
    assert caught.value.code == "address"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.8", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "::ffff:10.0.0.1", "ff02::1",
        "64:ff9b::a00:1", "2002:0a00:0001::", "2001:0:0a00:1::", "198.18.0.1", "fec0::1", "not an address",
    ],
)  # fmt: skip
def test_an_address_of_our_own_network_is_not_called(address: str) -> None:
    """Whatever its name says; nor a name that stands for a public address and for one of ours."""
    for found in ([address], ["93.184.216.34", address]):
        with pytest.raises(GatewayError) as caught:
            outbound.call("https://helix.example/", resolve=lambda host, port, found=found: found)
        assert caught.value.code == "address"


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700::1111", "::ffff:93.184.216.34"])
def test_a_public_address_is_public(address: str) -> None:
    assert outbound.is_public(address)


def test_what_does_not_answer_is_unreachable(site: Site, settings: Any) -> None:
    settings.OUTBOUND_ALLOWED = ["127.0.0.1:1"]
    with pytest.raises(outbound.Unreachable) as told:
        outbound.call("http://127.0.0.1:1/")
    assert told.value.code == "address_unreachable"
    with pytest.raises(outbound.Unreachable):
        outbound.call("https://helix.example/", resolve=lambda host, port: [])


pytestmark = pytest.mark.django_db
