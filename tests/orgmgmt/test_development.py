"""Secrets of a development checkout."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from orgmgmt.development import FILE_NAME, ensure_environment

pytestmark = pytest.mark.pure


def test_the_file_is_for_its_owner_alone_and_never_written_again(tmp_path: Path) -> None:
    ensure_environment(tmp_path / "data")
    file = tmp_path / "data" / FILE_NAME
    first = file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    ensure_environment(tmp_path / "data")
    assert file.read_text() == first
    assert [path.name for path in file.parent.iterdir()] == [FILE_NAME]


def test_of_several_first_starts_at_once_all_read_the_same_keys(tmp_path: Path) -> None:
    together = Barrier(4)

    def start(folder: Path) -> str:
        together.wait(10)
        ensure_environment(folder)
        return (folder / FILE_NAME).read_text()

    with ThreadPoolExecutor(4) as pool:
        for number in range(50):
            seen = {*pool.map(start, [tmp_path / str(number)] * 4)}
            assert len(seen) == 1, "one of them works with keys that are nowhere any more"
