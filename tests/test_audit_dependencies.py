"""`make audit-dependencies`: reports what pip-audit finds, and fails without an answer from it."""

import importlib.util
import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.pure
ROOT = Path(__file__).resolve().parent.parent
_SPEC = importlib.util.spec_from_file_location(
    "audit_dependencies", ROOT / "requirements" / "audit_dependencies.py"
)
assert _SPEC is not None and _SPEC.loader is not None
audit = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(audit)

GOOD: dict[str, object] = {"name": "django", "version": "5.2.19", "vulns": []}
BAD: dict[str, object] = {
    "name": "jinja",
    "version": "1.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1", "2.0"]}],
}
UNKNOWN: dict[str, object] = {"name": "psycopg", "skip_reason": "Dependency not found on PyPI"}


def said(*packages: dict[str, object]) -> tuple[int, str]:
    code, sentence = audit.verdict(json.dumps({"dependencies": packages, "fixes": []}))
    return int(code), str(sentence)


def test_a_vulnerable_or_unknown_package_and_a_missing_answer_fail() -> None:
    assert said(GOOD) == (0, "1 packages, no known hole.")
    assert said(GOOD, BAD) == (1, "jinja 1.0: PYSEC-1, mended in 1.1, 2.0")
    code, sentence = said(GOOD, UNKNOWN)
    assert code == 1
    assert sentence.startswith("1 of 2 packages could not be audited: psycopg.")
    assert said()[0] == audit.verdict("")[0] == audit.verdict("null")[0] == 1
