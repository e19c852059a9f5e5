"""What prevents an organization of the FastAPI edition from being taken over."""

from collections.abc import Callable

import pytest
from pytest_django import Settings

from organizations import lifecycle
from organizations.errors import FirstEditionUnreadable
from organizations.first_edition import planning
from organizations.first_edition.planning import plan
from organizations.first_edition.source import Source
from organizations.first_edition.taking_over import adopt
from organizations.provisioning import ceiling
from tests.conftest import Company

from .conftest import Edition

# In its database: what is found there.
IN_DATABASES = {
    "UPDATE users SET hashed_password = '$2b$31$' || repeat('a', 53) WHERE id = 1": (
        "user 1's password hash is not bcrypt of at most 2^15 rounds"
    ),
    "UPDATE users SET hashed_password = '' WHERE id = 3": "user 3's password hash is not bcrypt",
    "UPDATE users SET email = 'ada' WHERE id = 3": "user 3's address 'ada'",
    "UPDATE users SET email = E'\\x1b@company.com' WHERE id = 3": (
        "user 3's address '\\x1b@company.com'"
    ),
    "UPDATE users SET id = 0 WHERE id = 3": "a user's id is 0, after 0",
    "ALTER TABLE users DROP CONSTRAINT users_pkey; UPDATE users SET id = 1": (
        "a user's id is 1, after 1"
    ),
    "ALTER TABLE users RENAME TO people": "it has no table users in its schema public",
    "ALTER TABLE users DROP COLUMN is_admin, ALTER COLUMN id TYPE text": (
        "these columns of its table users are missing or of other types: id, is_admin"
    ),
    # The reader would see fewer rows, or run what the owner wrote.
    "ALTER TABLE users ENABLE ROW LEVEL SECURITY": "its users is not an ordinary table",
    "ALTER TABLE users RENAME TO people; CREATE VIEW users AS SELECT * FROM people": (
        "its users is not an ordinary table"
    ),
    "CREATE TABLE more () INHERITS (users)": "its users is not an ordinary table",
    "ALTER TABLE users DROP COLUMN is_admin; ALTER TABLE users ADD COLUMN is_admin boolean "
    "GENERATED ALWAYS AS (id > 0) STORED": "missing or of other types: is_admin",
    "REVOKE SELECT ON users FROM fastapi_reader": "was not read: InsufficientPrivilege",
}


def found(edition: Edition) -> dict[str, tuple[str, ...]]:
    """The obstacles, by name."""
    return {each.old.name: each.obstacles for each in plan(Source(edition.url))}


def test_each_thing_that_is_wrong_in_a_database_is_found(edition: Edition) -> None:
    for number, statement in enumerate(IN_DATABASES):
        edition.add(f"Wrong {number}", statement)
    obstacles = found(edition)
    for number, why in enumerate(IN_DATABASES.values()):
        assert any(why in each for each in obstacles[f"Wrong {number}"]), (why, obstacles)


def test_the_name_of_a_deleted_one_that_can_come_back_is_taken(
    edition: Edition, company: Callable[..., Company], settings: Settings
) -> None:
    settings.ORG_DELETION_GRACE_DAYS = 30
    made = company()
    lifecycle.delete_organization(made.organization)
    edition.add(made.name, database=edition.add("Fine Ltd"))
    assert any("its name is taken here" in each for each in found(edition)[made.name])


def test_each_thing_that_is_wrong_with_a_row_is_found(
    edition: Edition, alpha: Company, settings: Settings
) -> None:
    local = "postgresql://postgres:postgres@localhost:5432"
    edition.add("acme corp", database=edition.add("Fine Ltd"))
    edition.add("Twin Works")
    edition.add("twin-works")
    edition.add("Bell\x07")
    edition.add("Moved", url="postgresql+psycopg2://postgres:secret@elsewhere:5432/org_moved?a=b")
    edition.add("Gone", url=f"{local}/org_nowhere")
    edition.add("Unnamed", url=local)
    edition.execute("fastapi_master", "UPDATE organizations SET admin_email = 'x' WHERE id = 7")
    with edition.connect("org_twin_works"):
        obstacles = found(edition)
    expected = {
        "acme corp": [
            f"its name is taken here, by '{alpha.name}' (id {alpha.organization.pk})",
            "its database is also that of 'Fine Ltd' (id 1)",
        ],
        "Fine Ltd": ["its database is also that of 'acme corp' (id 2)"],
        "Twin Works": [
            "people would confuse its name with 'twin-works' (id 4)",
            "1 sessions with org_twin_works are open: stop the FastAPI edition",
        ],
        "twin-works": ["people would confuse its name with 'Twin Works' (id 3)"],
        "Bell\x07": ["'Bell\\x07': Remove control characters"],
        "Moved": ["the server 'elsewhere:5432', and most name 'localhost:5432'"],
        "Gone": ["'x': Enter a valid email", "there is no database org_nowhere"],
        "Unnamed": ["its database_url names no database"],
    }
    for name, sentences in expected.items():
        assert len(obstacles[name]) == len(sentences), (name, obstacles[name])
        for sentence, why in zip(sentences, obstacles[name], strict=True):
            assert sentence in why and "secret" not in why

    settings.ORG_MAX_ORGANIZATIONS = ceiling.count() + 1
    (one, two) = plan(Source(edition.url), names=["Moved", "Fine Ltd"])
    assert "leaves no room" not in str(one.obstacles)
    assert "ORG_MAX_ORGANIZATIONS leaves no room for it" in two.obstacles


def test_a_database_is_not_adopted_for_a_second_organization_later(edition: Edition) -> None:
    edition.add("Second Ltd", database=edition.add("First Ltd"))
    old = Source(edition.url)
    (first,) = plan(old, names=["First Ltd"])
    assert first.is_due, "the operator has chosen it"
    adopt(old, first.old)
    (second,) = plan(old, names=["Second Ltd"])
    assert second.obstacles == ("its database is also that of 'First Ltd' (id 1)",)


def test_what_is_read_is_bounded(edition: Edition, monkeypatch: pytest.MonkeyPatch) -> None:
    edition.add(
        "Long Ltd",
        "ALTER TABLE users ALTER COLUMN email TYPE text, DROP CONSTRAINT users_email_key",
        "UPDATE users SET email = repeat('a', 50000000) WHERE id = 3",
        "UPDATE users SET created_at = 'infinity' WHERE id = 1",
    )
    edition.add(
        "Many Ltd",
        "INSERT INTO users (email, hashed_password) SELECT n || '@x', '' "
        "FROM generate_series(1, 40) AS n",
    )
    monkeypatch.setattr(planning, "MAX_USERS", 40)
    obstacles = found(edition)
    (long,) = obstacles["Long Ltd"]
    assert len(long) < 1_000 and "at most 254 characters" in long
    assert obstacles["Many Ltd"][-2:] == (
        "it has more than 40 users",
        "64 more problems with users",
    )


def test_what_another_master_is_is_said(edition: Edition) -> None:
    edition.add("Any Ltd")
    edition.execute("fastapi_master", "ALTER TABLE organizations DROP COLUMN database_url")
    with pytest.raises(FirstEditionUnreadable, match="missing or of other types: database"):
        plan(Source(edition.url))
