"""What is said of dependencies with known vulnerabilities."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

_SPEC = importlib.util.spec_from_file_location(
    "audit", Path(__file__).parents[1] / ".ci" / "audit.py"
)
assert _SPEC
assert _SPEC.loader
audit = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(audit)

FINE = {"name": "fine", "version": "1.0", "vulns": []}
UNKNOWN = {"name": "unknown", "skip_reason": "not found"}
BAD: dict[str, Any] = {
    "name": "bad",
    "version": "1.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}],
}


def test_a_known_vulnerability_fails() -> None:
    said, code = audit.verdict([FINE, BAD, UNKNOWN])
    assert said == [
        "bad 1.0: PYSEC-1, fixed in: 1.1",
        "2 dependencies audited, 1 with a vulnerability; 1 could not be looked up",
    ]
    assert code == 1


def test_one_that_is_accepted_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(audit.ACCEPTED, "PYSEC-1", "it is not called")
    said, code = audit.verdict([BAD])
    assert said[0].endswith("accepted: it is not called")
    assert code == 0


def test_nothing_looked_up_is_not_called_audited() -> None:
    (said,), code = audit.verdict([UNKNOWN])
    assert "NOT audited" in said
    assert code == 0
