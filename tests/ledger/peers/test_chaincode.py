"""The chaincode and its shim on fake peers: streams, batches, refusals, the clock, who submits."""

import json
import logging
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from fabric_protos.peer import chaincode_shim_pb2_grpc

from deploy.fabric.pki import Authority
from ledger.chaincode import Chaincode, role_of, serve
from ledger.contract.errors import Refused
from ledger.contract.state import Json, Result, State, Transaction
from ledger.errors import LedgerError, PrepareError
from ledger.fabric.client import FabricLedger
from ledger.shim import Response, Server, Stub, Tls, batch_sizes
from tests.ledger.fake_network import FakeNetwork
from tests.ledger.toy import run

NOW = 1_800_000_000.0


def submit(ledger: FabricLedger, name: str, args: Json) -> tuple[Json, str]:
    envelope = ledger.prepare(name, args)
    ledger.send(envelope)
    return envelope.result, ledger.outcome(envelope.tx_id, timeout=5).validity


def test_writes_are_committed_and_announced(ledger: FabricLedger) -> None:
    result, validity = submit(ledger, "Put", {"key": "a", "value": "one"})
    assert (result, validity) == ({"before": None}, "VALID")
    assert ledger.evaluate(["a", "b"]) == [b"one", None]
    (event,) = ledger.events((-1, -1), wait=0.3)
    assert (event.block, event.index, event.name, event.payload) == (1, 0, "Put", {"key": "a"})


def test_a_transaction_does_not_read_its_own_writes(ledger: FabricLedger) -> None:
    submit(ledger, "Put", {"key": "a", "value": "one"})
    result, _ = submit(ledger, "Put", {"key": "a", "value": "two"})
    assert result == {"before": "one"}


@pytest.mark.parametrize("batched", [True, False])
def test_batches_where_the_peer_offers_them_and_single_messages_where_not(
    tmp_path: Path, batched: bool
) -> None:
    def many(state: State, tx: Transaction) -> Result:
        keys = tx.args["keys"]
        found = [None if value is None else value.decode() for value in state.get_many(keys)]
        for key in keys:
            state.put(key, f"value of {key}".encode())
        return Result({"found": found})

    network = FakeNetwork(tmp_path, many, batched=batched)
    ledger = network.ledger("gateway")
    keys = ["a", "b", "c", "d", "e"]
    assert submit(ledger, "Many", {"keys": keys}) == ({"found": [None] * 5}, "VALID")
    assert submit(ledger, "Many", {"keys": keys})[0] == {"found": [f"value of {key}" for key in keys]}
    asked = network.peers["RiversideMSP"].asked
    if batched:
        # Batches of two: three for five keys, in each of two transactions.
        assert asked == {"GET_STATE_MULTIPLE": 6, "WRITE_BATCH_STATE": 6}
    else:
        assert asked == {"GET_STATE": 10, "PUT_STATE": 10}
    ledger.close()
    network.close()


def test_ready_without_parameters_offers_nothing() -> None:
    assert batch_sizes(b"") == (0, 0)
    assert batch_sizes(bytes([8, 1, 16, 100, 24, 1, 32, 50])) == (100, 50)
    assert batch_sizes(bytes([16, 100, 32, 50])) == (0, 0)


def test_ranges_go_on_over_pages(ledger: FabricLedger) -> None:
    for key in ("k1", "k2", "k3", "k4", "k5", "other"):
        submit(ledger, "Put", {"key": key, "value": "v"})
    result, _ = submit(ledger, "Count", {"start": "k", "end": "l", "to": "total"})
    assert result == {"found": 5}


def test_a_phantom_in_a_range_invalidates(network: FakeNetwork, ledger: FabricLedger) -> None:
    count = ledger.prepare("Count", {"start": "k", "end": "l", "to": "total"})
    submit(ledger, "Put", {"key": "k1", "value": "v"})
    ledger.send(count)
    assert ledger.outcome(count.tx_id, timeout=5).validity == "PHANTOM_READ_CONFLICT"


def test_a_refusal_commits_nothing_and_keeps_its_code(network: FakeNetwork, ledger: FabricLedger) -> None:
    with pytest.raises(Refused) as caught:
        ledger.prepare("NoSuch", {})
    assert caught.value.code == "unknown_transaction"
    assert caught.value.message == "There is no such transaction."
    assert ledger.height() == 1


@pytest.mark.parametrize(
    "args", [[], [b"Put"], [b"Put", b"{}", b"{}"], [b"Put", b"[]"], [b"Put", b'{"a": 1}'], [b"\xff", b"{}"]]
)
def test_arguments_that_are_not_one_canonical_object_are_refused(args: list[bytes]) -> None:
    stub = Stub.__new__(Stub)
    stub.args = args
    response = Chaincode(run).invoke(stub)
    assert response.status == 409
    assert response.message.split(":")[0] in ("invalid_arguments", "not_canonical")


def test_a_failing_contract_is_no_endorsement_and_logs_no_content(
    ledger: FabricLedger, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(PrepareError):
        ledger.prepare("Broken", {"secret-key": "secret-value"})
    assert "KeyError" in caplog.text
    assert "inside the contract" not in caplog.text
    assert "secret" not in caplog.text


def test_an_error_of_the_peer_is_never_success(tmp_path: Path) -> None:
    """Even a contract that swallows every exception cannot make a transaction of it."""

    def stubborn(state: State, tx: Transaction) -> Result:
        try:
            state.get("a")
        except Exception:
            state.put("a", b"anyway")
        return Result({})

    network = FakeNetwork(tmp_path, stubborn)
    ledger = network.ledger("gateway")
    network.peers["RiversideMSP"].broken = True
    with pytest.raises(PrepareError):
        ledger.prepare("Any", {})
    network.peers["RiversideMSP"].broken = False
    assert submit(ledger, "Any", {})[1] == "VALID"
    ledger.close()
    network.close()


def test_hundred_transactions_at_once_do_not_mix(ledger: FabricLedger) -> None:
    def one(number: int) -> str:
        return submit(ledger, "Put", {"key": f"key{number}", "value": f"value{number}"})[1]

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(one, range(100))) == {"VALID"}
    keys = [f"key{number}" for number in range(100)]
    assert ledger.evaluate(keys) == [f"value{number}".encode() for number in range(100)]


def test_a_stream_that_ends_fails_what_waits_in_it(tmp_path: Path) -> None:
    entered, outcomes = threading.Event(), []

    def waiting(state: State, tx: Transaction) -> Result:
        entered.set()
        released.wait(10)
        return Result({})

    released = threading.Event()
    network = FakeNetwork(tmp_path, waiting)
    ledger = network.ledger("gateway")

    def attempt() -> None:
        try:
            ledger.prepare("Any", {})
        except LedgerError as error:
            outcomes.append(error.code)

    thread = threading.Thread(target=attempt)
    thread.start()
    assert entered.wait(5)
    network.peers["RiversideMSP"].hang_up()
    thread.join(10)
    released.set()
    assert outcomes == ["ledger_prepare_failed"]
    ledger.close()
    network.close()


def test_transient_data_reaches_the_contract_and_nothing_else(
    network: FakeNetwork, ledger: FabricLedger
) -> None:
    secret = b"an opening that must not be kept"
    envelope = ledger.prepare("Secret", {"key": "length"}, {"secret": secret})
    assert secret not in envelope.data
    ledger.send(envelope)
    ledger.outcome(envelope.tx_id, timeout=5)
    assert ledger.evaluate(["length"]) == [str(len(secret)).encode()]
    assert not any(secret in block.SerializeToString() for block in network.peers["LakesideMSP"].chain)


# The clock


def invoke_at(seconds: int, name: str) -> Response:
    class At(Stub):
        def __init__(self) -> None:
            self.args = [name.encode(), b'{"key":"a","value":"v"}']
            self.tx_id, self.seconds, self.msp = "00" * 32, seconds, "RiversideMSP"
            self.certificate = Authority.make("ca").issue("gateway", unit="client", role="gateway")[0]
            self.written: dict[str, bytes] = {}

        transient: dict[str, bytes] = {}

        def get(self, key: str) -> bytes | None:
            return None

        def put(self, key: str, value: bytes) -> None:
            self.written[key] = value

    return Chaincode(run, clock=lambda: NOW).invoke(At())


@pytest.mark.parametrize("offset", [-10, 0, 10])
def test_a_clock_within_ten_seconds_is_endorsed(offset: int) -> None:
    assert invoke_at(int(NOW) + offset, "Put").status == 200


@pytest.mark.parametrize("offset", [-60, -11, 11, 3600])
def test_a_clock_further_off_is_refused(offset: int) -> None:
    response = invoke_at(int(NOW) + offset, "Put")
    assert response.status == 409
    assert response.message.startswith("clock_skew: ")


def test_a_wrong_clock_keeps_nobody_from_stopping() -> None:
    assert invoke_at(int(NOW) + 3600, "RevokeConsent").status == 200


def test_the_client_is_told_to_set_its_clock(tmp_path: Path) -> None:
    network = FakeNetwork(tmp_path, run, clock=lambda: NOW)
    ledger = network.ledger("gateway")
    with pytest.raises(PrepareError) as caught:
        ledger.prepare("Put", {"key": "a", "value": "v"})
    assert caught.value.code == "clock_skew"
    ledger.close()
    network.close()


# Who submits


@pytest.mark.parametrize(
    ("name", "attribute", "role"),
    [
        ("keyholder@riverside.example", None, "keyholder"),
        ("Admin@riverside.example", None, "admin"),
        ("gateway2", None, "gateway"),
        ("User1@riverside.example", None, ""),
        ("keyholder-of-nothing", None, ""),
        ("peer0.riverside.example", None, ""),
        ("anything", "keyholder", "keyholder"),
        ("admin@riverside.example", "gateway", "gateway"),
        ("admin@riverside.example", "none of ours", ""),
    ],
)
def test_the_role_is_the_certificates(name: str, attribute: str | None, role: str) -> None:
    certificate, _ = Authority.make("ca").issue(name, unit="client", role=attribute)
    assert role_of(certificate) == role


def test_org_role_time_and_id_come_from_the_proposal(tmp_path: Path) -> None:
    def who(state: State, tx: Transaction) -> Result:
        state.put("who", json.dumps([tx.org, tx.role]).encode())
        return Result({"org": tx.org, "role": tx.role, "tx_id": tx.tx_id})

    network = FakeNetwork(tmp_path, who)
    ledger = network.ledger("keyholder", "LakesideMSP")
    envelope = ledger.prepare("Who", {})
    assert envelope.result == {"org": "LakesideMSP", "role": "keyholder", "tx_id": envelope.tx_id}
    ledger.close()
    network.close()


# The server


def test_only_a_peer_with_a_certificate_may_call(tmp_path: Path) -> None:
    authority, stranger = Authority.make("tlsca"), Authority.make("stranger")
    certificate, key = authority.issue("chaincode", tls=True)
    server = Server(
        Chaincode(run).invoke,
        chaincode_id="x",
        address="127.0.0.1:0",
        tls=Tls(key, certificate, authority.pem),
    )
    server.start()

    def first_message(credentials: grpc.ChannelCredentials) -> object:
        with grpc.secure_channel(f"127.0.0.1:{server.port}", credentials) as channel:
            stream = chaincode_shim_pb2_grpc.ChaincodeStub(channel).Connect(iter([]), timeout=5)
            return next(iter(stream)).type

    own = authority.issue("peer", tls=True)
    foreign = stranger.issue("peer", tls=True)
    assert first_message(grpc.ssl_channel_credentials(authority.pem, own[1], own[0])) == 1
    for credentials in (
        grpc.ssl_channel_credentials(authority.pem),
        grpc.ssl_channel_credentials(authority.pem, foreign[1], foreign[0]),
    ):
        with pytest.raises(grpc.RpcError):
            first_message(credentials)
    server.stop(0)


def test_settings_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHAINCODE_ID", raising=False)
    with pytest.raises(SystemExit, match="CHAINCODE_ID"):
        serve(Chaincode(run))
    monkeypatch.setenv("CHAINCODE_ID", "x:y")
    monkeypatch.setenv("CHAINCODE_SERVER_ADDRESS", "127.0.0.1:0")
    monkeypatch.setenv("CHAINCODE_TLS_KEY", str(Path(tempfile.gettempdir()) / "there-is-no-such-file"))
    with pytest.raises(SystemExit, match="CHAINCODE_TLS_KEY"):
        serve(Chaincode(run))
