"""The tables of the keyholder's store. `meta`: the format, the KEK's id, the output key, the clock's mark."""

SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE patients (
    patient TEXT PRIMARY KEY, wrapped_key BLOB NOT NULL, index_key BLOB NOT NULL,
    channel TEXT NOT NULL DEFAULT 'home', kek TEXT NOT NULL DEFAULT '') STRICT;
-- Whose keys were destroyed (SHA-256 of the id), when, and the KEK that backups of before need to hold them.
CREATE TABLE erasures (patient TEXT PRIMARY KEY, at INTEGER NOT NULL, kek TEXT NOT NULL) STRICT;
-- Which ledger each channel's name meant when it was first seen here (`Trust.identity`).
CREATE TABLE channels (name TEXT PRIMARY KEY, identity TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY, chunk TEXT NOT NULL, version INTEGER NOT NULL,
    patient TEXT NOT NULL REFERENCES patients, header BLOB NOT NULL, confirmed INTEGER NOT NULL DEFAULT 0,
    UNIQUE (chunk, version)) STRICT;
CREATE INDEX chunks_of_patient ON chunks (patient, chunk);
CREATE TABLE consents (
    consent TEXT PRIMARY KEY, patient TEXT NOT NULL REFERENCES patients, opening BLOB NOT NULL) STRICT;
CREATE INDEX consents_of_patient ON consents (patient);
-- What a patient is to sign, before it is a consent, and the passkeys that sign for her.
CREATE TABLE drafts (
    consent TEXT PRIMARY KEY, patient TEXT NOT NULL REFERENCES patients, draft BLOB NOT NULL,
    at INTEGER NOT NULL) STRICT;
CREATE TABLE passkeys (
    id INTEGER PRIMARY KEY, patient TEXT NOT NULL REFERENCES patients, passkey BLOB NOT NULL,
    dropped INTEGER) STRICT;
CREATE INDEX passkeys_of_patient ON passkeys (patient);
CREATE TABLE denied (consent TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT;
-- An invalid transaction never takes effect: only it makes room for another with the same purpose.
CREATE TABLE submissions (
    id INTEGER PRIMARY KEY, purpose TEXT NOT NULL, tx_id TEXT NOT NULL UNIQUE, envelope BLOB NOT NULL,
    result BLOB NOT NULL, state TEXT NOT NULL, code TEXT NOT NULL DEFAULT '', block INTEGER) STRICT;
CREATE UNIQUE INDEX one_submission ON submissions (purpose) WHERE state != 'invalid';
-- Consents that were granted together: the purpose of the submission that grants them.
CREATE TABLE batches (
    consent TEXT NOT NULL, purpose TEXT NOT NULL, PRIMARY KEY (consent, purpose)) STRICT;
CREATE TABLE releases (
    job TEXT NOT NULL, attempt INTEGER NOT NULL, body BLOB NOT NULL, nonce TEXT NOT NULL,
    issued INTEGER NOT NULL, PRIMARY KEY (job, attempt)) STRICT;
CREATE TABLE deliveries (
    job TEXT NOT NULL, attempt INTEGER NOT NULL, outputs BLOB NOT NULL, PRIMARY KEY (job, attempt)) STRICT;
CREATE TABLE accesses (
    access TEXT PRIMARY KEY, kind TEXT NOT NULL, patient TEXT NOT NULL REFERENCES patients,
    details BLOB NOT NULL, digest TEXT NOT NULL, expires INTEGER NOT NULL, signature BLOB) STRICT;
-- The passkeys by which members of staff, known by their pseudonyms, confirm emergencies.
CREATE TABLE clinicians (
    id INTEGER PRIMARY KEY, clinician TEXT NOT NULL, credential TEXT NOT NULL, public_key BLOB NOT NULL,
    since INTEGER NOT NULL, how TEXT NOT NULL, dropped INTEGER) STRICT;
CREATE TABLE heights (
    channel TEXT NOT NULL, org TEXT NOT NULL, height INTEGER NOT NULL,
    PRIMARY KEY (channel, org)) STRICT;
CREATE TABLE openings (
    id INTEGER PRIMARY KEY, line BLOB NOT NULL, digest BLOB NOT NULL,
    proof TEXT NOT NULL REFERENCES proofs) STRICT;
-- When a patient's chunks were last regrouped: who was in the middle of reading them begins anew.
CREATE TABLE regrouped (patient TEXT PRIMARY KEY REFERENCES patients, at INTEGER NOT NULL) STRICT;
-- A proof is kept once for all the openings that rested on it.
CREATE TABLE proofs (digest TEXT PRIMARY KEY, proof BLOB NOT NULL) STRICT;
CREATE TABLE opened (
    reference TEXT NOT NULL, attempt INTEGER NOT NULL, subject TEXT NOT NULL, ground TEXT NOT NULL,
    PRIMARY KEY (reference, attempt, subject, ground)) STRICT;
"""
# What an opening is found by: its job or access, and its subject. An index of the rows' own words says
# nothing that they do not; a store of before gets it when it is opened; a line that was spoilt has neither.
_LINE = "CAST(line AS TEXT)"
REFERENCE = f"CASE WHEN json_valid({_LINE}) THEN json_extract({_LINE}, '$.reference') END"
SUBJECT = f"CASE WHEN json_valid({_LINE}) THEN json_extract({_LINE}, '$.subjects[0]') END"
# Who asked for a release, and for which model: by these the outputs about several that left are found.
_BODY = "CAST(body AS TEXT)"
ASKED_BY = f"CASE WHEN json_valid({_BODY}) THEN json_extract({_BODY}, '$.request.recipient') END"
ASKED_FOR = f"CASE WHEN json_valid({_BODY}) THEN json_extract({_BODY}, '$.request.model') END"
# What is derived from other rows, and so made where it is not there: indexes, and the files of shelves.py.
DERIVED = (
    f"CREATE INDEX IF NOT EXISTS openings_of ON openings ({REFERENCE}, {SUBJECT})",
    f"CREATE INDEX IF NOT EXISTS releases_of ON releases ({ASKED_BY}, {ASKED_FOR})",
    "CREATE TABLE IF NOT EXISTS shelves (shelf INTEGER PRIMARY KEY, head BLOB NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS filed (shelf INTEGER NOT NULL, reference TEXT NOT NULL,"
    " openings BLOB NOT NULL, mac BLOB NOT NULL, PRIMARY KEY (reference, shelf)) STRICT",
    "CREATE INDEX IF NOT EXISTS filed_of_shelf ON filed (shelf)",
)

FORMAT = b"8"
# From an older format to the next one, by these statements.
UPGRADES = {
    b"2": (
        b"3",
        "CREATE TABLE batches ("
        " consent TEXT NOT NULL, purpose TEXT NOT NULL, PRIMARY KEY (consent, purpose)) STRICT",
    ),
    b"3": (
        b"4",
        "CREATE TABLE drafts (consent TEXT PRIMARY KEY, patient TEXT NOT NULL REFERENCES patients,"
        " draft BLOB NOT NULL, at INTEGER NOT NULL) STRICT;"
        "CREATE TABLE passkeys (id INTEGER PRIMARY KEY, patient TEXT NOT NULL REFERENCES patients,"
        " passkey BLOB NOT NULL, dropped INTEGER) STRICT;"
        "CREATE INDEX passkeys_of_patient ON passkeys (patient)",
    ),
    b"4": (
        b"5",
        "ALTER TABLE patients ADD COLUMN channel TEXT NOT NULL DEFAULT 'home';"
        "CREATE TABLE channels (name TEXT PRIMARY KEY, identity TEXT NOT NULL UNIQUE) STRICT;"
        "ALTER TABLE heights RENAME TO heights_at_home;"
        "CREATE TABLE heights (channel TEXT NOT NULL, org TEXT NOT NULL, height INTEGER NOT NULL,"
        " PRIMARY KEY (channel, org)) STRICT;"
        "INSERT INTO heights SELECT 'home', org, height FROM heights_at_home;"
        "DROP TABLE heights_at_home",
    ),
    b"5": (
        b"6",
        "ALTER TABLE patients ADD COLUMN kek TEXT NOT NULL DEFAULT '';"
        "UPDATE patients SET kek = (SELECT CAST(value AS TEXT) FROM meta WHERE name = 'kek_id');"
        "CREATE TABLE erasures (patient TEXT PRIMARY KEY, at INTEGER NOT NULL, kek TEXT NOT NULL) STRICT",
    ),
    b"6": (
        b"7",
        "CREATE TABLE regrouped (patient TEXT PRIMARY KEY REFERENCES patients, at INTEGER NOT NULL) STRICT",
    ),
    b"7": (
        b"8",
        "ALTER TABLE accesses ADD COLUMN signature BLOB;"
        "CREATE TABLE clinicians (id INTEGER PRIMARY KEY, clinician TEXT NOT NULL, credential TEXT NOT NULL,"
        " public_key BLOB NOT NULL, since INTEGER NOT NULL, how TEXT NOT NULL, dropped INTEGER) STRICT",
    ),
}
