"""Compare the conversion funnel of states: find differences that are larger than chance explains."""

from __future__ import annotations

import numpy as np
import pandas as pd

from etl.reporting.answers import Answer
from etl.reporting.words import counted, share

FEW_LEADS = 50
"""Minimum number of leads for a meaningful rate."""
QUANTILE_OF_95_PERCENT = 1.959964
"""Half the width of a 95 % interval of a normal distribution, in standard deviations."""
FEW, HIGHEST, UNCLEAR, LOWER, NO_STATE = "few leads", "highest", "no clear difference", "lower", ""
"""Values of the column `comparison`: too few leads to compare; how the rate compares with the highest rate; and
NO_STATE for leads without a state, which are not compared (FEW if they are fewer than FEW_LEADS)."""


def conversion_funnel_per_state(rows: pd.DataFrame) -> Answer:
    """Compare the conversion rates of the states.

    Rows: `state lead_count appointment_count demo_count sale_count appointment_rate demo_rate conversion_rate
    lowest_rate highest_rate comparison`, one per state, the state with the most leads first; "unknown" for leads
    without a state. Rates are shares of `lead_count`, from 0 to 1; `conversion_rate` is that of sales. `lowest_rate`
    and `highest_rate` are the limits of its 95 % confidence interval (Wilson). `comparison` is one of FEW, HIGHEST,
    UNCLEAR, LOWER and NO_STATE.
    """
    table = rows.assign(state=rows["state"].fillna("unknown")).reset_index(drop=True)
    table["lowest_rate"], table["highest_rate"] = wilson_intervals(table["sale_count"], table["lead_count"])
    has_state = rows["state"].notna().to_numpy()
    is_few = table["lead_count"] < FEW_LEADS
    table["comparison"] = np.where(has_state | is_few, FEW, NO_STATE)
    judged = table[has_state & ~is_few]
    if len(judged):
        best = judged.iloc[judged["conversion_rate"].argmax()]
        overlaps = judged["highest_rate"] >= best["lowest_rate"]
        comparison = overlaps.map({True: UNCLEAR, False: LOWER}).mask(judged["state"] == best["state"], HIGHEST)
        table["comparison"] = comparison.reindex(table.index).fillna(table["comparison"])
    return Answer("How does conversion differ between states?", table, _sentence(table))


def _sentence(table: pd.DataFrame) -> str:
    judged = table[~table["comparison"].isin([FEW, NO_STATE])]
    if judged.empty:
        return f"No state has {FEW_LEADS} leads yet: too few for a rate."
    best, worst = judged.iloc[judged["conversion_rate"].argmax()], judged.iloc[judged["conversion_rate"].argmin()]
    if len(judged) == 1:
        sold = share(best["sale_count"], best["lead_count"])
        return f"Only {best['state']} has at least {FEW_LEADS} leads: {sold} of them are sold."
    unclear = list(judged["state"][judged["comparison"] == UNCLEAR])
    sentence = (
        f"Of the states with at least {FEW_LEADS} leads, {best['state']} has the highest share of sold leads "
        f"({share(best['sale_count'], best['lead_count'])} of {counted(best['lead_count'], 'lead')}) and "
        f"{worst['state']} the lowest ({share(worst['sale_count'], worst['lead_count'])} of {worst['lead_count']:,})"
    )
    if len(unclear) == len(judged) - 1:
        return f"{sentence}: no clear difference, the 95 % intervals overlap."
    if unclear:
        return f"{sentence}; no clear difference between {best['state']} and {', '.join(unclear)}."
    return f"{sentence}."


def wilson_intervals(successes: pd.Series, trials: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Return the lower and upper limits of the 95 % confidence intervals of shares (Wilson). Trials are at least 1."""
    trials = trials.astype(float)
    part, squared = successes.astype(float) / trials, QUANTILE_OF_95_PERCENT**2
    centre = (part + squared / (2 * trials)) / (1 + squared / trials)
    spread = np.sqrt(part * (1 - part) / trials + squared / (4 * trials**2)) / (1 + squared / trials)
    low, high = centre - QUANTILE_OF_95_PERCENT * spread, centre + QUANTILE_OF_95_PERCENT * spread
    return low.clip(0, part), high.clip(part, 1)  # rounding must not move a limit past the share
