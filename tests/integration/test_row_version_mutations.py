"""Deliberate mistakes in the SQL of step 6 are detected by the random histories.

FAULTS=long pytest tests/integration/test_row_version_mutations.py      # all of them; `make test` takes three
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from run_histories import run_histories
from support import Bucket, empty_warehouse

from etl.utils import transactions
from etl.utils.utils_connection import Settings

LONG = os.environ.get("FAULTS") == "long"
HISTORIES_PER_MUTATION = 60
"""The first that fails ends the search: most mutations need one to three."""

VERSIONS, MODELS = "silver/row_versions", "gold/models"


class Mutation(NamedTuple):
    script: str
    old: str
    new: str


MUTATIONS = {
    "rewind keeps versions that begin on the day": Mutation(
        f"{VERSIONS}/rewind.sql",
        "delete from silver.row_versions\nwhere valid_from >=",
        "delete from silver.row_versions\nwhere valid_from >",
    ),
    "rewind does not reopen what was closed on the day": Mutation(
        f"{VERSIONS}/rewind.sql",
        "row_versions_closed\n    where valid_to >=",
        "row_versions_closed\n    where valid_to >",
    ),
    "rewind does not reopen": Mutation(
        f"{VERSIONS}/rewind.sql",
        "row_versions_closed\n    where valid_to >=",
        "row_versions_closed\n    where false and valid_to >=",
    ),
    "rewind forgets leads of reopened versions": Mutation(
        f"{VERSIONS}/rewind.sql", "where valid_from >= {day} or valid_to >= {day}", "where valid_from >= {day}"
    ),
    "rewind keeps matches of contents without versions": Mutation(
        f"{VERSIONS}/rewind.sql", "having count(version.valid_from) = 0", "having false"
    ),
    "advance forgets leads of closed versions": Mutation(
        f"{VERSIONS}/advance.sql",
        "coalesce(day_changes.closed_hash, day_changes.opened_hash)",
        "day_changes.opened_hash",
    ),
    "advance forgets leads of contents that return": Mutation(
        f"{VERSIONS}/advance.sql",
        "coalesce(day_changes.closed_hash, day_changes.opened_hash)",
        "day_changes.closed_hash",
    ),
    "advance matches contents that return again": Mutation(
        f"{VERSIONS}/advance.sql",
        "where new_contents._row_hash = matches._row_hash",
        "where false and matches.email_match",
    ),
    "advance opens duplicate rows twice": Mutation(
        f"{VERSIONS}/advance.sql", "select distinct on (_row_hash)", "select"
    ),
    "matching by e-mail claims the phone": Mutation(
        f"{VERSIONS}/match_contents.sql",
        "coalesce(leads.phone_key = contents.phone_key, false) as phone_match",
        "true as phone_match",
    ),
    "matching by phone takes two NULL e-mails for equal": Mutation(
        f"{VERSIONS}/match_contents.sql",
        "not coalesce(leads.email_key = contents.email_key, false)",
        "leads.email_key is distinct from contents.email_key",
    ),
    "matching does not affect leads": Mutation(
        f"{VERSIONS}/match_contents.sql",
        "from staging.new_matches\nwhere lead_uuid is not null",
        "from staging.new_matches\nwhere false",
    ),
    "changed leads leave days as they are": Mutation(
        f"{VERSIONS}/compare_leads.sql", "set built_from = array[]::bigint[]", "set built_from = built_from"
    ),
    "changed leads are compared without their phone": Mutation(
        f"{VERSIONS}/compare_leads.sql",
        "    or phone_key in (select changed_leads.phone_key from staging.changed_leads)",
        "",
    ),
    "leads without rows do not count as changed": Mutation(
        f"{VERSIONS}/compare_leads.sql",
        "union\nselect lead_uuid\nfrom staging.changed_leads",
        "union\nselect lead_uuid\nfrom staging.changed_leads where false",
    ),
    "last_seen is not touched": Mutation(
        "gold/touch_last_seen.sql", "set last_seen = {latest_day}", "set last_seen = last_seen"
    ),
    "the extraction date is not touched": Mutation(
        "gold/touch_last_seen.sql",
        "_extraction_date = {extraction_date}\nwhere",
        "_extraction_date = _extraction_date\nwhere",
    ),
    "rows of leads that are gone stay": Mutation("gold/macros/delete.sql", "where\n", "where false and\n"),
    "the phone ranks before the e-mail": Mutation(
        f"{MODELS}/affected_versions.sql",
        "when matches.email_match then 2 else 3",
        "when matches.email_match then 3 else 2",
    ),
    "last_seen is the day of valid_to": Mutation(
        f"{MODELS}/affected_versions.sql",
        "_partition_date as last_seen",
        "coalesce(lead(_partition_date) over (order by _partition_date), _partition_date) as last_seen",
    ),
    "a version lasts until valid_to, inclusive": Mutation(
        f"{MODELS}/lead_status_history.sql",
        "days.day < coalesce(versions.valid_to",
        "days.day <= coalesce(versions.valid_to",
    ),
    "history begins with valid_from alone": Mutation(
        f"{MODELS}/lead_status_history.sql", "unnest(array[valid_from, valid_to])", "unnest(array[valid_from])"
    ),
    "first_seen is the latest first day": Mutation(f"{MODELS}/leads.sql", "min(valid_from)", "max(valid_from)"),
    "an appointment has its first status": Mutation(
        f"{MODELS}/appointments.sql", "appointment_date asc, last_seen desc", "appointment_date asc, last_seen asc"
    ),
    "appointments are numbered again": Mutation(
        "gold/register_appointments.sql",
        "(select coalesce(max(given.appointment_id), 0) from meta.appointment_ids as given)",
        "(select 7 * count(*) from meta.appointment_ids)",
    ),
}
SHORT = ("changed leads leave days as they are", "last_seen is not touched", "advance forgets leads of closed versions")


@pytest.fixture(scope="module")
def settings(postgres_server: Settings, s3_endpoint: str) -> Iterator[Settings]:
    with empty_warehouse(postgres_server, s3_endpoint, __name__) as settings:
        yield settings


@pytest.mark.parametrize("name", MUTATIONS if LONG else SHORT)
def test_mutation_is_detected(settings: Settings, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    mutation = MUTATIONS[name]
    read_script = transactions.read_script

    def read_mutated(script: str) -> str:
        text = read_script(script)
        if script != mutation.script:
            return text
        assert text.count(mutation.old) == 1, f"{script} has changed: {mutation.old}"
        return text.replace(mutation.old, mutation.new)

    monkeypatch.setattr(transactions, "read_script", read_mutated)
    assert any(run_histories(settings, bucket, [seed]) for seed in range(HISTORIES_PER_MUTATION))
