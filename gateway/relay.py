"""The relay: the one process that carries intents to the ledger, and the ledger's events back.

Rounds that know nothing of each other: for each channel the outbox, the events, and emergencies that the
other organisations have not seen; the audit seal, chunks that a crash left unconfirmed, jobs that a worker
lost, letters to patients, reconciliation and erasures. Each does what is due and says how long it may rest;
a round that fails is logged by its error code and tried again.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.db import close_old_connections, transaction

from consent import cohorts, representatives
from consent import services as consents
from consent.models import Consent
from gateway.accounts import letters, webhooks
from gateway.analysis import exports
from gateway.analysis import services as jobs
from gateway.analysis.replayed import LISTENER
from gateway.compliance import alarms, attesting, erasure, retraining, rights
from gateway.compliance import services as compliance
from gateway.compliance.reconcile import Reconciler, hold, settle_others
from gateway.emergency import services as emergencies
from gateway.keyholder.client import Keyholder
from gateway.records import keeping, own_copies
from ledger import outbox
from ledger.audit import sealing
from ledger.audit.incidents import is_held
from ledger.audit.log import Actor
from ledger.channels import Channel, Channels
from ledger.client import HOME, Event
from ledger.errors import GatewayError
from ledger.models import LedgerTransaction

log = logging.getLogger(__name__)

LISTEN_SECONDS = 1.0  # a release waits until that long nothing new has come
ERASE_SECONDS = 10.0
ATTEST_SECONDS = 60.0
RECONCILE_SECONDS = 60.0
WHOLE_LOOK_SECONDS = 3600.0
RECONCILER = Actor.system("reconciler")


def record_accessed(event: Event) -> None:
    """A person's access stands on the ledger: each room takes its own kind."""
    emergencies.record_accessed(event)
    own_copies.record_accessed(event)


def and_tell(record: Callable[[Event], None]) -> Callable[[Event], None]:
    """Record what the ledger says of consents, and tell the companies that asked, in one transaction."""

    @transaction.atomic
    def handle(event: Event) -> None:
        record(event)
        named = [event.payload.get("consent"), *event.payload.get("consents", ())]
        for consent in Consent.objects.filter(pk__in=[each for each in named if each], channel=event.channel):
            if consent.granted_at is None or (consent.stopped_at and consent.stopped_at < consent.granted_at):
                continue  # stopped before it came into force: to the company it is as a no
            asked = consent.request
            if asked.cohort_id is not None:
                continue  # of a cohort a company knows numbers, and nobody's question
            webhooks.tell(requester=asked.requester_id, event="consent.changed", request=asked.pk)

    return handle


HANDLERS: Mapping[str, Callable[[Event], None]] = {
    "ConsentGranted": and_tell(consents.record_granted),
    "ConsentsGranted": and_tell(consents.record_all_granted),
    "ConsentReplaced": and_tell(consents.record_replaced),
    "ConsentRevoked": and_tell(consents.record_revoked),
    "ModelRegistered": jobs.record_model_registered,
    "Accessed": record_accessed,
    "Checkpointed": sealing.record_checkpointed,
}


class Relay:
    """Runs every round in a thread of its own until `stop()`."""

    def __init__(self, ledger_urls: Mapping[str, str], keyholder_socket: str) -> None:
        self.ledger_urls = ledger_urls
        self.keyholder = Keyholder(keyholder_socket)
        self._stopped = threading.Event()
        self._reconciler: Reconciler | None = None
        self._looked_whole = time.monotonic()
        self._erased_again: float | None = None

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        rounds = [
            *((work, name, 0.05) for name in self.ledger_urls for work in (self._send, self._listen)),
            *((self._complete_emergencies, name, 5.0) for name in self.ledger_urls),
            (self._seal, HOME, 1.0),
            (self._confirm, HOME, 5.0),
            (self._recover, HOME, 5.0),
            (self._send_letters, HOME, 5.0),
            (self._send_webhooks, HOME, 1.0),
            (self._ask_cohorts, HOME, 1.0),
            (self._reconcile, HOME, RECONCILE_SECONDS),
            (self._erase, HOME, ERASE_SECONDS),
            (self._attest, HOME, ATTEST_SECONDS),
        ]
        threads = [threading.Thread(target=self._repeat, args=one) for one in rounds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _repeat(self, work: Callable[[Channel], None], name: str, rest: float) -> None:
        """One round after another, each thread with its own connection to the channel's ledger."""
        channels = Channels.open(self.ledger_urls, identity="gateway")
        while not self._stopped.is_set():
            pause = rest
            try:
                work(channels[name])
            except GatewayError as error:
                log.warning("%s on %s: %s", work.__name__, name, error.code)
                pause = max(rest, 1.0)
            except Exception as error:  # the relay outlives what it does not know; the row stays due
                log.error("%s failed: %s", work.__name__, type(error).__name__)
                pause = max(rest, 5.0)
            finally:
                close_old_connections()
            self._stopped.wait(pause)
        channels.close()

    def _send(self, channel: Channel) -> None:
        outbox.send_pending(
            channel.ledger,
            channel=channel.name,
            through_keyholder=self._through_keyholder,
            grants_through_keyholder=self._grants_through_keyholder,
            refused=consents.record_refused,
        )

    def _through_keyholder(self, row: LedgerTransaction) -> Mapping[str, object]:
        """Grants carry an opening, so the keyholder submits them."""
        consent = consents.consent_of(row)
        return self.keyholder.grant(**_grant(consent), replaces=consent.replaces_id)

    def _grants_through_keyholder(self, rows: Sequence[LedgerTransaction]) -> list[Mapping[str, object]]:
        """As many grants as are due, in one transaction where they can be."""
        granting = consents.consents_of(rows)
        answers = self.keyholder.grant_many(grants=[_grant(one) for one in granting])
        return [answers[one.id] for one in granting]

    def _listen(self, channel: Channel) -> None:
        outbox.follow(
            channel.ledger,
            listener=LISTENER,
            handlers=HANDLERS,
            wait=LISTEN_SECONDS,
            channel=channel.name,
        )

    def _complete_emergencies(self, channel: Channel) -> None:
        self.keyholder.complete_emergencies(channel=channel.name)

    def _seal(self, channel: Channel) -> None:
        sealing.seal()

    def _confirm(self, channel: Channel) -> None:
        keeping.confirm_pending(self.keyholder)

    def _recover(self, channel: Channel) -> None:
        jobs.recover()
        jobs.drop_old_results()
        exports.drop_old()
        for export in compliance.waiting():
            compliance.hand_over(export)
        compliance.drop_old()
        alarms.watch()
        retraining.watch()
        rights.open_due()
        consents.expire_requests()
        representatives.tell_birthdays()

    def _reconcile(self, channel: Channel) -> None:
        """A short look each time; a whole one once an hour, and while an incident holds releases."""
        if self._reconciler is None:
            channels = Channels.open(self.ledger_urls, identity="gateway")
            self._reconciler = Reconciler(channels, self.keyholder)
        began = time.monotonic()
        whole = is_held() or began - self._looked_whole >= WHOLE_LOOK_SECONDS
        findings = self._reconciler.look(whole=whole).findings
        hold(findings, by=RECONCILER)
        if whole:
            settle_others(findings, by=RECONCILER)
            self._looked_whole = began
        # Its looks take a tenth of the time, however long the log is.
        self._stopped.wait(max(0.0, 9 * (time.monotonic() - began) - RECONCILE_SECONDS))

    def _erase(self, channel: Channel) -> None:
        """Erasures that are due; when the relay starts and once an hour, also those that a backup undid."""
        now = time.monotonic()
        if self._erased_again is None or now - self._erased_again >= WHOLE_LOOK_SECONDS:
            erasure.repeat(self.keyholder)
            self._erased_again = now
        erasure.carry_out(self.keyholder)
        erasure.close_backups(self.keyholder)

    def _attest(self, channel: Channel) -> None:
        attesting.attest_newest()

    def _send_letters(self, channel: Channel) -> None:
        letters.send_letters()

    def _send_webhooks(self, channel: Channel) -> None:
        webhooks.send_due()

    def _ask_cohorts(self, channel: Channel) -> None:
        cohorts.ask_next()


def _grant(consent: Consent) -> dict[str, Any]:
    """What the keyholder is to grant."""
    return {
        "consent": consent.id,
        "patient": consent.patient_id,
        "fhir": consent.fhir,
        "signature": consent.signature,
        "signature_required": consent.request.signature_required,
    }


def settle(seconds: float, is_settled: Callable[[], bool]) -> bool:
    """Wait until `is_settled()` or the time is over; says which."""
    deadline = time.monotonic() + seconds
    while not is_settled():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
