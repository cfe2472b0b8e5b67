"""Random histories detect deliberate errors in the SQL of step 6.

FAULTS=long tests all mutations; `make test` tests three.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
from histories import History, PutDay, PutLeads, Run
from run_histories import run_histories, run_history
from support import LONG, Bucket

from etl.utils.utils_connection import Settings
from etl.warehouse import sql_scripts

HISTORIES_PER_MUTATION = 60
"""The search ends at the first failure: most mutations need one to three histories."""

VERSIONS, MODELS = "silver/row_versions", "gold/models"


class Mutation(NamedTuple):
    script: str
    old: str
    new: str


MUTATIONS = {
    "a content that leaves a day loses all its days": Mutation(
        f"{VERSIONS}/apply_day.sql", "when matched and changes.has_no_other_day then", "when matched then"
    ),
    "a content that leaves a day is valid on it": Mutation(
        f"{VERSIONS}/apply_day.sql", "contents.valid_during - {period}", "contents.valid_during"
    ),
    "a content that leaves a day leaves the days after it, too": Mutation(
        f"{VERSIONS}/apply_day.sql",
        "contents.valid_during - {period}",
        "contents.valid_during - datemultirange(daterange({day}, null))",
    ),
    "a content that leaves its only day stays": Mutation(
        f"{VERSIONS}/apply_day.sql",
        "when matched and changes.has_no_other_day then\n    delete\n",
        "",
    ),
    "a content that returns is valid on the new day alone": Mutation(
        f"{VERSIONS}/apply_day.sql", "contents.valid_during + {period}", "{period}"
    ),
    "a content that comes to a day is valid on the days after it, too": Mutation(
        f"{VERSIONS}/apply_day.sql",
        "values (_row_hash, {columns}, {period})",
        "values (_row_hash, {columns}, datemultirange(daterange({day}, null)))",
    ),
    "a content without days keeps its matches": Mutation(
        f"{VERSIONS}/apply_day.sql",
        "where matches._row_hash = day_changes._row_hash and day_changes.has_no_other_day",
        "where false and day_changes.has_no_other_day",
    ),
    "leads of contents that leave a day are forgotten": Mutation(
        f"{VERSIONS}/apply_day.sql",
        "    from staging.day_changes\n    union",
        "    from staging.day_changes where is_in_snapshot\n    union",
    ),
    "leads of contents that come to a day are forgotten": Mutation(
        f"{VERSIONS}/apply_day.sql",
        "    from staging.day_changes\n    union",
        "    from staging.day_changes where not is_in_snapshot\n    union",
    ),
    "leads seen last on the day are forgotten": Mutation(
        f"{VERSIONS}/apply_day.sql",
        "where valid_during @> ({next_day} - 1)",
        "where false and valid_during @> ({next_day} - 1)",
    ),
    "contents that return are matched again": Mutation(
        f"{VERSIONS}/apply_day.sql", "where not is_known", "where is_in_snapshot"
    ),
    "duplicate rows are contents of their own": Mutation(
        f"{VERSIONS}/apply_day.sql", "select distinct on (_row_hash) *", "select *"
    ),
    "matching by e-mail claims the phone": Mutation(
        f"{VERSIONS}/match_contents.sql",
        "coalesce(leads.phone_key = contents.phone_key, false) as phone_match",
        "true as phone_match",
    ),
    "matching does not affect leads": Mutation(
        f"{VERSIONS}/match_contents.sql",
        "from new_matches\nwhere lead_uuid is not null",
        "from new_matches\nwhere false",
    ),
    "changed leads leave days as they are": Mutation(
        f"{VERSIONS}/compare_leads.sql", "set built_from = array[]::bigint[]", "set built_from = built_from"
    ),
    "changed leads leave days after the first one of a content as they are": Mutation(
        f"{VERSIONS}/compare_leads.sql",
        "range_agg(contents.valid_during)",
        "range_agg(daterange(lower(contents.valid_during), lower(contents.valid_during), '[]'))",
    ),
    "changed leads are compared without their phone": Mutation(
        f"{VERSIONS}/compare_leads.sql",
        "    or phone_key in (select changed_leads.phone_key from staging.changed_leads)",
        "",
    ),
    "removed leads do not count as changed": Mutation(
        f"{VERSIONS}/compare_leads.sql", "having sum(difference) <> 0", "having sum(difference) > 0"
    ),
    "a lead that occurs once more does not count as changed": Mutation(
        f"{VERSIONS}/compare_leads.sql", "having sum(difference) <> 0", "having count(distinct difference) = 1"
    ),
    "leads without rows do not count as changed": Mutation(
        f"{VERSIONS}/compare_leads.sql",
        "union\nselect lead_uuid\nfrom staging.changed_leads",
        "union\nselect lead_uuid\nfrom staging.changed_leads where false",
    ),
    "last_seen is not touched": Mutation(
        "gold/touch_last_seen.sql", "set last_seen = latest._partition_date", "set last_seen = last_seen"
    ),
    "the extraction date is not touched": Mutation(
        "gold/touch_last_seen.sql",
        "_extraction_date = latest._extraction_date\nfrom",
        "_extraction_date = old._extraction_date\nfrom",
    ),
    "rows of leads that are gone stay": Mutation("gold/macros/delete.sql", "where\n", "where false and\n"),
    "the phone ranks before the e-mail": Mutation(
        f"{MODELS}/affected_versions.sql",
        "when versions.email_match then 2 else 3",
        "when versions.email_match then 3 else 2",
    ),
    "last_seen is the day of valid_to": Mutation(
        f"{MODELS}/affected_versions.sql",
        "_partition_date as last_seen",
        "coalesce(lead(_partition_date) over (order by _partition_date), _partition_date) as last_seen",
    ),
    "history has all versions of a day": Mutation(
        f"{MODELS}/lead_status_history.sql",
        "datemultirange(period) - coalesce(range_agg(period) over better, datemultirange())",
        "datemultirange(period)",
    ),
    "history has the worst version of a day": Mutation(
        f"{MODELS}/lead_status_history.sql", "order by match_rank asc", "order by match_rank desc"
    ),
    "first_seen is the latest first day": Mutation(f"{MODELS}/leads.sql", "min(lower(period))", "max(lower(period))"),
    "an appointment has its first status": Mutation(
        f"{MODELS}/appointments.sql", "appointment_date asc, last_seen desc", "appointment_date asc, last_seen asc"
    ),
    "new appointments get the ids of others": Mutation(
        "gold/register_appointments.sql", "coalesce(max(given.appointment_id), 0)", "coalesce(max(0), 0)"
    ),
}
SHORT = (
    "changed leads leave days as they are",
    "last_seen is not touched",
    "leads of contents that leave a day are forgotten",
)
ROW, OTHER_ROW = {"LEADNUMBER": "1", "email_hash": "e1"}, {"LEADNUMBER": "2", "email_hash": "e2"}
DIRECTED = {
    "a content without days keeps its matches": History(
        "a content returns after the leads have changed",
        (
            *(PutLeads((("lead a", "pa", "e1"),), "first"), PutDay(1, (ROW,), "new"), Run()),
            *(PutDay(1, (OTHER_ROW,), "without the content"), Run()),
            *(PutLeads((("lead b", "pb", "e1"),), "the e-mail is another lead's"), Run()),
            *(PutDay(1, (ROW,), "with the content again"), Run()),
        ),
    ),
    "a lead that occurs once more does not count as changed": History(
        "a lead occurs once more with the same keys",
        (
            *(PutLeads((("lead a", "null", "e1"),), "first"), PutDay(1, (ROW,), "new"), Run()),
            *(PutLeads((("lead a", "null", "e1"), ("lead a", "n/a", "e1")), "another missing phone"), Run()),
        ),
    ),
}
"""Histories for mutations that random histories seldom detect."""


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS)
def test_mutation_changes_its_script_once(mutation: Mutation) -> None:
    assert sql_scripts.read_script(mutation.script).count(mutation.old) == 1


@pytest.mark.parametrize("name", MUTATIONS if LONG else SHORT)
def test_mutation_is_detected(settings: Settings, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    mutation = MUTATIONS[name]
    read_script = sql_scripts.read_script

    def read_mutated(script: str) -> str:
        text = read_script(script)
        return text.replace(mutation.old, mutation.new) if script == mutation.script else text

    monkeypatch.setattr(sql_scripts, "read_script", read_mutated)
    if name in DIRECTED:
        assert run_history(settings, bucket, DIRECTED[name]) is not None
    else:
        assert any(run_histories(settings, bucket, [seed]) for seed in range(HISTORIES_PER_MUTATION))


@pytest.mark.parametrize("history", DIRECTED.values(), ids=DIRECTED)
def test_directed_history_holds_without_mutation(settings: Settings, bucket: Bucket, history: History) -> None:
    assert run_history(settings, bucket, history) is None
