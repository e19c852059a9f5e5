"""Tests of `make bench-large`: it continues after a kill, and refuses a disk that is too small."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import large
from benchmarks.harness.budget import Clock
from benchmarks.harness.folders import require_disk, size_bytes
from benchmarks.harness.rows import Row

pytestmark = pytest.mark.pure


def test_a_part_that_is_done_is_not_made_again_by_the_next_run(tmp_path: Path) -> None:
    file, clock = tmp_path / "progress.json", Clock(10)
    first = large.Progress(file)
    first.part("existing 100", clock, lambda: [Row("existing/100", "ms", (90.0,))])
    with pytest.raises(KeyboardInterrupt):
        first.part("routed 1000", clock, killed)

    second = large.Progress(file)
    second.part("existing 100", clock, killed)
    second.part("routed 1000", clock, lambda: [Row("routed/1000 zipf/plain", "/s", (500.0,))])

    assert [row.key for row in second.rows().all()] == ["existing/100", "routed/1000 zipf/plain"]
    assert second.began == first.began


def test_it_needs_30_gb_of_disk_including_what_it_has_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def free(byte_count: int) -> None:
        room = SimpleNamespace(free=byte_count)
        monkeypatch.setattr("benchmarks.harness.folders.shutil.disk_usage", lambda path: room)

    free(29 * 10**9)
    with pytest.raises(SystemExit, match="has room for 29 GB; 30 are needed"):
        require_disk(tmp_path / "not" / "yet", large.NEEDED_BYTES)
    (tmp_path / "database").write_bytes(b"x" * 100_000)
    free(30 * 10**9 - size_bytes(tmp_path))
    require_disk(tmp_path, large.NEEDED_BYTES)


def killed() -> list[Row]:
    raise KeyboardInterrupt
