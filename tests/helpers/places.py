"""Folders that tests read from."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
REPOSITORY = TESTS.parent
SHARED = REPOSITORY.parent / "shared"
"""Real data beside the checkout, where it is."""
