"""Isolation: check_isolation attacks every endpoint and model, and staff see no users.

The attempts themselves are run one by one in tests/organizations/isolation/test_catalogue.py.
"""

import pytest
from django.test import Client

from organizations.isolation import Side, rows
from organizations.isolation.calls import all_calls, endpoints, send

pytest_plugins = ["tests.isolation.fixtures"]

CALLS = all_calls()


# --- Nothing is left out ------------------------------------------------------------------------
@pytest.mark.pure
def test_every_endpoint_is_attacked() -> None:
    missing, gone = endpoints() - set(CALLS), set(CALLS) - endpoints()
    assert not missing, (
        f"Not covered: {sorted(missing)}. Add each to CALLS in organizations/isolation/calls.py or "
        "in the app's isolation.py, with a body that a caller from another organization would send."
    )
    assert not gone, f"Remove {sorted(gone)} from CALLS."


@pytest.mark.pure
def test_every_tenant_model_has_rows_on_both_sides() -> None:
    missing = rows.uncovered_models(rows.tenant_models())
    assert not missing, (
        f"Not covered: {sorted(missing)}. Add to ROWS in organizations/isolation/rows.py or in the "
        "app's isolation.py a function that makes rows of each."
    )


# --- Staff --------------------------------------------------------------------------------------
def test_staff_see_no_organizations_users(theirs: Side, staff_client: Client) -> None:
    for key, call in CALLS.items():
        if call.audience == "member" and key not in ("GET /api/v1/", "POST /api/v1/auth/logout/"):
            response = send(staff_client, key, theirs, theirs)
            assert response.status_code == 403, f"{key}: {response.content!r}"
