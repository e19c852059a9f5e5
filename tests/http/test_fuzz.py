"""Random requests: none gets a 5xx or an answer that the schema does not name.

FUZZ_SEED chooses the requests; FUZZ_SECONDS is how long to go on (`make fuzz`).
"""

import os
import time
from collections.abc import Callable

import pytest

from organizations.models import Staff
from tests.conftest import Company

from .server import WebServer

SEED = int(os.environ.get("FUZZ_SEED", "3"))
SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
ROLES = ("stranger", "member", "admin", "staff")
EXAMPLES = 4


@pytest.mark.fuzz
@pytest.mark.timeout(300 + 2 * SECONDS)
@pytest.mark.parametrize("role", ROLES)
def test_every_answer_is_one_that_the_schema_names(
    server: WebServer,
    company: Callable[..., Company],
    role: str,
    record_property: Callable[[str, object], None],
) -> None:
    from .fuzz import Visitor, operations, try_everything  # Slow to load.

    started = time.monotonic()
    visitor = Visitor(server, company(), role)
    until = started + SECONDS / len(ROLES)
    print(f"seed {SEED}")
    failures, last = try_everything(visitor, seed=SEED, examples=EXAMPLES, until=until)
    record_property("seed", SEED)
    record_property("last seed", last)
    record_property("requests", visitor.sent.total())
    record_property("seconds", round(time.monotonic() - started, 1))
    for answer, count in sorted(visitor.sent.items()):
        record_property(f"requests: {answer}", count)
    Staff.objects.filter(username=visitor.email).delete()
    assert not failures, "\n\n".join(failures)
    tried = {answer.rpartition(" ")[0] for answer in visitor.sent}
    assert tried == {operation.label for operation in operations(server)}


@pytest.mark.fuzz
def test_every_check_is_on_or_has_a_reason_to_be_off() -> None:
    from schemathesis import checks

    from .fuzz import LEFT_OUT, OFF, ON

    checks.load_all_checks()
    names = {check.__name__ for check in checks.CHECKS.get_all()}
    assert names == {check.__name__ for check in (*ON, *OFF)}
    assert not set(ON) & set(OFF)
    assert all(len(reason) > 20 for reason in (*OFF.values(), *LEFT_OUT.values()))
