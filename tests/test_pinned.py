"""Packages and images are pinned by hash."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.pure
ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))


def test_every_package_has_its_hashes() -> None:
    for path in REQUIREMENTS:
        packages = re.split(r"\n(?=[a-z0-9])", path.read_text())
        assert len(packages) > 5, path
        bare = [each for each in packages if not re.search(r"--hash=sha256:[0-9a-f]{64}", each)]
        assert not bare, path
        assert all(re.match(r"[a-z0-9-]+==", each) for each in packages), path


def test_every_installation_requires_hashes() -> None:
    for name in ("Makefile", "Dockerfile", "requirements/venv.sh", "docs/deployment.md"):
        text = (ROOT / name).read_text().replace("\\\n", " ")
        commands = [line for line in text.splitlines() if "pip install" in line]
        assert commands, name
        assert not [each for each in commands if "--require-hashes" not in each], name


def test_every_image_is_named_by_its_digest() -> None:
    named = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    named += re.findall(r"^ +image: (\S+)", (ROOT / "compose.yaml").read_text(), re.MULTILINE)
    assert len(named) == 3
    assert not [image for image in named if not re.search(r"@sha256:[0-9a-f]{64}$", image)]
