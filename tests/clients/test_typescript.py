"""Types that openapi-typescript makes of the schema, and a program that uses them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]

PROGRAMS = Path(sys.prefix) / "clients" / "node_modules" / ".bin"
STRICT = ["--strict", "--noEmit", "--target", "es2022", "--module", "es2022", "--skipLibCheck"]


def test_the_types_of_the_schema_compile_and_fit_what_is_sent(schema: Path) -> None:
    folder = schema.parent
    shutil.copy(Path(__file__).parent / "client.ts", folder)
    for program, *arguments in (
        ["openapi-typescript", schema.name, "--output", "openapi.d.ts"],
        ["tsc", *STRICT, "--moduleResolution", "bundler", "client.ts", "openapi.d.ts"],
    ):
        done = subprocess.run(
            [PROGRAMS / program, *arguments], cwd=folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
