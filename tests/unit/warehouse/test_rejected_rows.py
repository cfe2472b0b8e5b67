"""Warnings about rejected rows."""

from __future__ import annotations

from collections import Counter

import pytest

from etl.utils.columns import BLANK_ROW, FOOTER
from etl.warehouse.rejected_rows import MOST_FOOTERS, warn_of_rejected


@pytest.mark.parametrize("others", [{}, {"NUL byte": 1}])
def test_only_many_footers_are_part_of_the_warning(caplog: pytest.LogCaptureFixture, others: dict[str, int]) -> None:
    warn_of_rejected("data_1.csv", Counter({BLANK_ROW: 99, FOOTER: MOST_FOOTERS, **others}))
    assert len(caplog.messages) == len(others)
    assert FOOTER not in caplog.text
    caplog.clear()
    warn_of_rejected("data_1.csv", Counter({BLANK_ROW: 99, FOOTER: MOST_FOOTERS + 1, **others}))
    assert f"{FOOTER} ({MOST_FOOTERS + 1})" in caplog.text
    assert BLANK_ROW not in caplog.text
