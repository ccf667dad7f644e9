"""Marks of settings that are flags."""

from __future__ import annotations

import tyro

SAID = tyro.conf.arg(help_behavior_hint="")
"""Of a field whose text says what its default stands for: the help does not print the value, None, beside it."""
