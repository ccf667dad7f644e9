"""Inputs of small jobs, made once a module."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.small_jobs import write_inputs


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    return folder
