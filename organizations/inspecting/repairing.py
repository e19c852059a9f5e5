"""Runs the statements that repair what check_orgs finds."""

import logging
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import replace

import psycopg
from psycopg import sql

from organizations.postgres.sessions import ServerSession

from . import verdicts
from .catalog import Seen
from .verdicts import Problem, text

logger = logging.getLogger(__name__)


def by_superuser(problem: Problem) -> Problem:
    """The problem, if its statements did not help: a superuser has to run them."""
    if not problem.statements:
        return problem
    return replace(problem, remedy=f"as a superuser: {text(*problem.statements)}")


def run(session: ServerSession, seen: Seen, problems: Collection[Problem]) -> None:
    """Run each statement by itself, as a member of the current and the future owner."""
    with ExitStack() as memberships:
        for role in dict.fromkeys((seen.role, seen.owner)):
            if role is not None and verdicts.is_ours(role) and session.role_exists(role):
                try:
                    memberships.enter_context(session.membership(role))
                except psycopg.errors.InsufficientPrivilege as error:
                    logger.warning("membership not granted", extra={"role": role}, exc_info=error)
        for statement in (each for problem in problems for each in problem.statements):
            if accepted(session, statement):
                extra = {"organization": seen.organization_id, "statement": statement.as_string()}
                logger.info("repaired", extra=extra)


def accepted(session: ServerSession, statement: sql.Composed) -> bool:
    """Whether PostgreSQL accepted it. Raises the error of a broken session."""
    try:
        session.execute(statement)
    except psycopg.Error as error:
        if session.connection.closed:
            raise
        logger.warning("not repaired", extra={"statement": statement.as_string()}, exc_info=error)
        return False
    return True
