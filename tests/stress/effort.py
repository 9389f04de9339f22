"""How much is tried: `STRESS=100` in the environment tries a hundred times as many examples, and other ones in each run."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

FACTOR = int(os.environ.get("STRESS", "1"))


def tries(n: int) -> settings:
    """Settings of a test that tries `n` examples, times the factor."""
    return settings(
        max_examples=n * FACTOR, derandomize=FACTOR == 1, database=None, deadline=None, print_blob=True,
        report_multiple_bugs=False, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
