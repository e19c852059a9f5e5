"""The active organization: blocks, decorators, generators, cache keys and log lines."""

import dataclasses
import gc
import logging
from collections.abc import AsyncIterator, Iterator

import pytest
from django.core.cache import cache

from accounts.models import User
from organizations import tenancy
from organizations.tenancy import NoTenant, Tenant, registry
from orgmgmt.logging import LineFormatter, TenantFilter
from tests.conftest import Company


def suspended(tenant: Tenant) -> Iterator[str]:
    """A generator that yields in the middle of its block."""
    with tenancy.override(tenant):
        yield "first"
        yield "second"


def test_no_organization_is_active_outside_of_a_block() -> None:
    assert tenancy.peek() is None, "somebody is active"
    with pytest.raises(NoTenant, match=r"tenancy\.override\(tenant\)"):
        tenancy.get()


def test_a_block_activates_its_organization_and_ends_it(alpha: Company) -> None:
    with tenancy.override(alpha.tenant):
        assert tenancy.get() == alpha.tenant, "another one is active"
    assert tenancy.peek() is None, "the block has not ended"


def test_a_block_that_raises_restores_what_was_before(alpha: Company, beta: Company) -> None:
    with tenancy.override(alpha.tenant):
        with pytest.raises(ZeroDivisionError), tenancy.override(beta.tenant):
            _ = 1 / 0
        assert tenancy.peek() == alpha.tenant, "the raising block did not restore alpha"
    with pytest.raises(ZeroDivisionError), tenancy.override(beta.tenant):
        _ = 1 / 0
    assert tenancy.peek() is None, "the raising block left beta active"


def test_the_innermost_block_counts(alpha: Company, beta: Company) -> None:
    with tenancy.override(alpha.tenant):
        with tenancy.override(beta.tenant), tenancy.override(beta.tenant):
            assert tenancy.get() == beta.tenant, "the outer one shows through"
        assert tenancy.get() == alpha.tenant, "the outer one did not come back"


def test_override_with_none_shuts_an_organization_out(alpha: Company) -> None:
    with tenancy.override(alpha.tenant):
        with tenancy.override(None):
            assert tenancy.peek() is None, "the outer organization shows through"
            with pytest.raises(NoTenant):
                User.objects.count()
        assert tenancy.get() == alpha.tenant, "the outer organization did not come back"


def test_blocks_that_end_in_another_order_bring_back_nobody(alpha: Company, beta: Company) -> None:
    first, second = tenancy.override(alpha.tenant), tenancy.override(beta.tenant)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert tenancy.peek() == beta.tenant, "the end of the older block ended the newer one"
    second.__exit__(None, None, None)
    assert tenancy.peek() is None, "a finished organization came back"


def test_one_override_is_entered_once_at_a_time(alpha: Company) -> None:
    block = tenancy.override(alpha.tenant)
    with block, pytest.raises(RuntimeError, match="already active"):
        block.__enter__()
    with block:
        assert tenancy.get() == alpha.tenant, "a finished override cannot be entered again"


def test_a_second_exit_of_a_block_changes_nothing(alpha: Company) -> None:
    block = tenancy.override(alpha.tenant)
    with tenancy.override(alpha.tenant):
        with block:
            pass
        block.__exit__(None, None, None)
        assert tenancy.get() == alpha.tenant, "the second exit ended another block"
        assert User.objects.exists(), "the second exit took another block's pin"


def test_a_decorated_function_runs_inside_even_when_it_calls_itself(
    alpha: Company, beta: Company
) -> None:
    @tenancy.override(alpha.tenant)
    def countdown(depth: int) -> list[str]:
        """Counts."""
        return [tenancy.get().slug] + (countdown(depth - 1) if depth else [])

    with tenancy.override(beta.tenant):
        assert countdown(2) == [alpha.tenant.slug] * 3, "a call ran outside of its organization"
        assert tenancy.get() == beta.tenant, "the decorated function left its organization on"
    assert countdown.__doc__ == "Counts.", "the decorator hides the function"


def test_a_decorator_refuses_generator_functions(alpha: Company) -> None:
    def steps() -> Iterator[int]:
        yield 1

    async def asteps() -> AsyncIterator[int]:
        yield 1

    for function in (steps, asteps):
        with pytest.raises(TypeError, match=r"steps is a generator.*tenancy\.iterate"):
            tenancy.override(alpha.tenant)(function)


def test_a_generator_closed_inside_another_block_leaves_that_block_alone(
    alpha: Company, beta: Company
) -> None:
    generator = suspended(alpha.tenant)
    assert next(generator) == "first"
    with tenancy.override(beta.tenant):
        generator.close()  # type: ignore[attr-defined]
        assert tenancy.get() == beta.tenant, "the generator's end changed somebody else's block"
    assert tenancy.peek() is None, "the generator's organization came back"


def test_a_generator_that_is_collected_in_its_block_leaves_nothing(alpha: Company) -> None:
    generator = suspended(alpha.tenant)
    assert next(generator) == "first"
    del generator
    gc.collect()
    assert tenancy.peek() is None, "the collected generator left alpha active"
    assert not registry._pins, "the collected generator left its pin"


def test_reset_ends_every_block_and_releases_every_pin(alpha: Company, beta: Company) -> None:
    outer, inner = tenancy.override(alpha.tenant), tenancy.override(beta.tenant)
    outer.__enter__()
    inner.__enter__()
    tenancy.reset()
    assert tenancy.peek() is None, "reset left an organization active"
    assert not registry._pins, "reset left a pin"
    inner.__exit__(None, None, None)
    outer.__exit__(None, None, None)
    assert not +registry._pins, "a late exit released what reset had released"
    assert tenancy.peek() is None, "a late exit brought an organization back"


def test_a_block_that_cannot_begin_leaves_nothing() -> None:
    with (
        pytest.raises(Exception, match="There is no organization"),
        tenancy.override(Tenant(organization_id=2_000_000_000, slug="nobody")),
    ):
        pytest.fail("the block of an organization that does not exist began")
    assert tenancy.peek() is None, "a block that did not begin is active"
    assert not registry._pins, "a block that did not begin holds a pin"


def test_a_tenant_cannot_be_changed_and_its_alias_comes_from_its_id() -> None:
    tenant = Tenant(organization_id=7, slug="_storage")
    assert tenant.alias == "org_7", "the alias is made from something else than the id"
    with pytest.raises(dataclasses.FrozenInstanceError):
        tenant.organization_id = 8  # type: ignore[misc]


def test_a_cached_value_is_invisible_to_others_and_to_the_platform(
    alpha: Company, beta: Company
) -> None:
    cache.set("user:1", "platform")
    with tenancy.override(alpha.tenant):
        assert cache.get("user:1") is None, "alpha reads the platform's value"
        cache.set("user:1", "alpha")
    with tenancy.override(beta.tenant):
        assert cache.get("user:1") is None, "beta reads another's value"
        cache.delete("user:1")
        cache.set("user:1", "beta")
    with tenancy.override(alpha.tenant):
        assert cache.get("user:1") == "alpha", "beta reached alpha's value"
        cache.delete("user:1")
    assert cache.get("user:1") == "platform", "an organization reached the platform's value"
    cache.clear()


def test_keys_differ_by_organization_version_and_prefix(alpha: Company, beta: Company) -> None:
    keys = {cache.make_key("k"), cache.make_key("k", version=2)}
    for company in (alpha, beta):
        with tenancy.override(company.tenant):
            keys |= {cache.make_key("k"), cache.make_key("k", version=2)}
    assert len(keys) == 6, f"two compartments share a key: {sorted(keys)}"


def test_a_reused_id_finds_nothing_in_the_cache(alpha: Company) -> None:
    """A restored master gives ids out twice, and never a key."""
    with tenancy.override(alpha.tenant):
        cache.set("user:1", "of the first")
    with tenancy.override(dataclasses.replace(alpha.tenant, key="0a" * 16)):
        assert cache.get("user:1") is None, "the second reads the first one's"
    nobody = dataclasses.replace(alpha.tenant, key="")
    with tenancy.override(nobody), pytest.raises(NoTenant):
        cache.get("user:1")
    cache.clear()


def test_a_log_line_names_the_active_organization(alpha: Company, beta: Company) -> None:
    def line() -> str:
        record = logging.makeLogRecord({"msg": "saved", "user": 7})
        assert TenantFilter().filter(record), "the filter drops records"
        return LineFormatter("[%(tenant)s] %(message)s").format(record)

    with tenancy.override(alpha.tenant):
        assert line() == f"[{alpha.tenant.alias}] saved user=7"
        with tenancy.override(beta.tenant):
            assert line() == f"[{beta.tenant.alias}] saved user=7"
    assert line() == "[-] saved user=7"
