"""Fuzz rules for rows: reading, writing, streaming, caching, and attempts to cross."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.core.cache import cache
from django.db import DatabaseError
from django.test import Client
from django.utils.connection import ConnectionDoesNotExist
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition

from accounts.models import User
from organizations import lifecycle, tenancy
from organizations.models import Organization
from organizations.tenancy import NoTenant, WrongTenant

from . import work
from .base import BROKEN, act, pick
from .blocks import Blocks, drop
from .model import Rows
from .units import Unit

keys = st.integers(10, 13)


def done_by(how: Callable[..., Any], *arguments: Any) -> bool:
    """Call it; True, whatever it returns."""
    how(*arguments)
    return True


@dataclass(eq=False)
class Stream:
    """An iteration that is stepped through later.

    holder: what is closed, or dropped; home: the one thread its cursor is good in.
    """

    steps: Any
    holder: Any
    organization: int | None
    home: str | None = None
    may_break: bool = False


@dataclass(eq=False)
class Kept:
    """An instance and its organization."""

    user: User
    organization: int


class Walls(Blocks):
    """The whole machine."""

    def __init__(self) -> None:
        super().__init__()
        self.streams: list[Stream] = []
        self.kept: list[Kept] = []
        self.querysets: list[Any] = []
        for number, side in enumerate(self.sides):
            with tenancy.override(side.tenant):
                self.kept.append(Kept(User.objects.get(pk=10), number))

    @initialize()
    def begin_with_something(self) -> None:
        """Iterations that have not begun."""
        self.keep_a_queryset(number=0)
        self.start_a_stream(number=0, organization=0, cursor=True)

    # --- Rows -----------------------------------------------------------------------------------
    @act(number=pick, how=st.sampled_from(work.READS))
    def look(self, number: int, how: Callable[[], Rows]) -> None:
        unit = self.unit(number)
        self.same(self.asks(unit, how), self.model.active(unit.name))

    @act(number=pick, how=st.sampled_from(work.WRITES), pk=keys)
    def write(self, number: int, how: Callable[[int, str], None], pk: int) -> None:
        unit = self.unit(number)
        organization = self.model.active(unit.name)
        self.written += 1
        domain = "nowhere" if organization is None else self.sides[organization].domain
        email = f"{pk}-{self.written}@{domain}"
        done = self.asks(unit, lambda: done_by(how, pk, email))
        if done and organization is not None:
            self.model.rows[organization][pk] = email

    @act(number=pick, pk=keys)
    def delete(self, number: int, pk: int) -> None:
        unit = self.unit(number)
        organization = self.model.active(unit.name)
        done = self.asks(unit, lambda: done_by(work.delete, pk))
        if done and organization is not None:
            self.model.rows[organization].pop(pk, None)

    @act(organization=st.integers(0, 3))
    def look_from_outside(self, organization: int) -> None:
        self.same(self.world.contents(organization), organization)

    # --- Crossings ------------------------------------------------------------------------------
    @act(number=pick, pk=keys)
    def keep_an_instance(self, number: int, pk: int) -> None:
        unit = self.unit(number)
        organization = self.model.active(unit.name)
        found = self.asks(unit, lambda: (User.objects.filter(pk=pk).first(),))
        if found is not None and organization is not None:
            assert (found[0] and found[0].email) == self.model.rows[organization].get(pk)
            if found[0] is not None:
                self.kept = [*self.kept[-5:], Kept(found[0], organization)]

    @precondition(lambda self: self.kept)
    @act(number=pick, which=pick, how=st.sampled_from(work.USES))
    def use_an_instance(self, number: int, which: int, how: Callable[[User], Any]) -> None:
        unit, kept = self.unit(number), self.kept[which % len(self.kept)]
        active = self.model.active(unit.name)
        pk, email = kept.user.pk, kept.user.email
        present = active is not None and pk in self.model.rows[active]
        try:
            done = self.asks(unit, lambda: done_by(how, kept.user))
        except WrongTenant:
            assert active not in (None, kept.organization), "its own organization refused it"
            return
        except (User.DoesNotExist, DatabaseError) as error:
            assert active == kept.organization and not present, error
            assert how in (work.refresh, work.save_some), error
            return
        if done is None or active is None:
            return
        assert active == kept.organization, f"{kept.organization}'s instance was used in {active}"
        if how is User.delete:
            self.kept.remove(kept)
            self.model.rows[active].pop(pk, None)
        elif how is User.save or (how in (work.save_some, work.bulk_update) and present):
            self.model.rows[active][pk] = email
        elif how is work.copy:
            self.model.rows[active].setdefault(pk, email)

    @act(number=pick)
    def keep_a_queryset(self, number: int) -> None:
        """It is lazy: read later, in whatever organization is active then."""
        people = self.unit(number).direct(lambda: User.objects.values_list("pk", "email"))
        self.querysets = [*self.querysets[-2:], people]

    @precondition(lambda self: self.querysets)
    @act(number=pick, which=pick)
    def read_a_queryset(self, number: int, which: int) -> None:
        unit, people = self.unit(number), self.querysets[which % len(self.querysets)]
        found = self.asks(unit, lambda: dict(people.all()))
        self.same(found, self.model.active(unit.name))

    @act(number=pick, organization=st.integers(0, 3), how=st.sampled_from(work.DETOURS))
    def name_the_database(self, number: int, organization: int, how: Callable[[str], Rows]) -> None:
        unit, alias = self.unit(number), self.alias(organization)
        active = self.model.active(unit.name)
        try:
            found = self.asks(unit, lambda: how(alias))
        except WrongTenant:
            assert active not in (None, organization), "its own organization refused it"
        except ConnectionDoesNotExist:
            assert organization not in self.model.pinned(), "an alias in use is not there"
        else:
            assert found is None or active == organization, f"{active} has reached {organization}"
            self.same(found, active)

    # --- Suspensions ----------------------------------------------------------------------------
    @act(number=pick, organization=st.integers(0, 3))
    def suspend_for_a_moment(self, number: int, organization: int) -> None:
        """Whatever is under way: meanwhile no request of the organization's is answered."""
        unit, client = self.unit(number), Client()
        client.defaults["HTTP_AUTHORIZATION"] = f"Bearer {self.tokens[organization]}"
        row = Organization.objects.get(pk=self.sides[organization].organization.pk)
        lifecycle.suspend_organization(row)
        try:
            self.was_cut(organization)
            self._a_request_ends(unit)
            self.model.reset(unit.name, flow=unit.thread)
            response = unit.query(lambda: client.get("/api/v1/me/"))
            # Or there is no room for it.
            assert response.status_code in (403, 503), response.content
        finally:
            lifecycle.resume_organization(row)
        self.read(unit)

    # --- Streams --------------------------------------------------------------------------------
    @precondition(lambda self: len(self.streams) < 4)
    @act(number=pick, organization=st.integers(0, 3), cursor=st.booleans())
    def start_a_stream(self, number: int, organization: int, cursor: bool) -> None:
        unit, tenant = self.unit(number), self.sides[organization].tenant
        make = work.cursor_steps if cursor else work.steps
        steps = self.enters(
            organization, lambda: unit.query(lambda: tenancy.iterate(tenant, make()))
        )
        if steps is not None:
            self.model.pin(organization)
            self.streams.append(Stream(steps, steps, organization, unit.thread if cursor else None))

    @precondition(lambda self: len(self.streams) < 4)
    @act(number=pick, organization=st.one_of(st.integers(0, 3), st.none()))
    def ask_for_a_streamed_response(self, number: int, organization: int | None) -> None:
        """Through every middleware, which ends what was active in the unit before."""
        unit = self.unit(number)
        client = Client()
        if organization is not None:
            client.defaults["HTTP_AUTHORIZATION"] = f"Bearer {self.tokens[organization]}"
        self.model.reset(unit.name, flow=unit.thread)
        if self.is_full_for(organization):
            organization = None
        response = unit.query(lambda: client.get("/test/stream"))
        assert response.status_code == 200
        refused = getattr(response.wsgi_request, "credential", None)
        if isinstance(refused, BROKEN):
            # The view asks for nothing, so nobody answers with it.
            self.excuse(unit, organization, refused)
            organization = None
        self.model.pin(organization)
        self.streams.append(Stream(iter(response), response, organization))
        self.read(unit)

    @precondition(lambda self: self.streams)
    @act(number=pick, which=pick)
    def advance_a_stream(self, number: int, which: int) -> None:
        stream = self.streams[which % len(self.streams)]
        unit = self._unit_for(stream, number)
        if unit is None:
            return
        organization = stream.organization
        # Nobody's stream is in nobody's name, wherever it is stepped through.
        try:
            found = unit.query(lambda: next(stream.steps, None))
        except NoTenant:
            assert organization is None, "the stream has lost its organization"
            self._before_the_end(stream, unit)
            self._over(stream)
            return
        except BROKEN as error:
            self._before_the_end(stream, unit)
            self._over(stream)
            if not stream.may_break:
                self.excuse(unit, organization, error)
            return
        if found is None:
            assert stream.home is not None, "the steps have ended by themselves"
            self._over(stream)
            return
        assert organization is not None, f"nobody's stream holds {found}"
        answer = json.loads(found)
        self.model.cut.discard((unit.thread, organization))
        self.same({int(pk): email for pk, email in answer["rows"].items()}, organization)
        if answer["email"] is not None:
            assert answer["email"].endswith(self.sides[organization].domain)

    @precondition(lambda self: self.streams)
    @act(number=pick, which=pick, abandon=st.booleans())
    def end_a_stream(self, number: int, which: int, abandon: bool) -> None:
        stream = self.streams[which % len(self.streams)]
        unit = self._unit_for(stream, number)
        if unit is None:
            return
        self._before_the_end(stream, unit)
        if abandon:
            box, stream.steps, stream.holder = [stream.holder], None, None
            unit.query(lambda: drop(box))
        else:
            try:
                unit.query(stream.holder.close)
            except BROKEN:
                assert stream.may_break
        self._over(stream)

    def _unit_for(self, stream: Stream, number: int) -> Unit | None:
        fitting = [unit for unit in self.units if stream.home in (None, unit.thread)]
        return fitting[number % len(fitting)] if fitting else None

    def _before_the_end(self, ending: Stream, unit: Unit) -> None:
        """The end of a request closes what its thread has open, as Django does; no request of this
        server shares its thread with a stream of another one."""
        if ending.holder is not ending.steps:
            self._a_request_ends(unit)

    def _a_request_ends(self, unit: Unit) -> None:
        for stream in self.streams:
            stream.may_break |= stream.home == unit.thread

    def _over(self, stream: Stream) -> None:
        self.streams.remove(stream)
        self.model.unpin(stream.organization)

    def cursors_may_break(self, organization: int) -> None:
        for stream in self.streams:
            stream.may_break |= stream.organization == organization

    # --- Cache ----------------------------------------------------------------------------------
    @act(number=pick)
    def use_the_cache(self, number: int) -> None:
        """One unit writes, and all read the same key."""
        writer = self.unit(number)
        self.written += 1
        writer.query(lambda: cache.set("user:1", self.written))
        self.model.cache[self.model.active(writer.name)] = self.written
        for unit in self.units:
            active = self.model.active(unit.name)
            found = unit.query(lambda: cache.get("user:1"))
            assert found == self.model.cache.get(active), f"{found} in {active}'s cache"

    def let_go(self) -> None:
        super().let_go()
        for stream in self.streams:
            unit = self._unit_for(stream, 0) or self.world.here
            self._before_the_end(stream, unit)
            try:
                unit.query(stream.holder.close)
            except BROKEN:
                assert stream.may_break
        self.streams.clear()
        cache.clear()
