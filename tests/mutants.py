"""`make mutants`: breaks the product in many named ways, and checks that the tests notice.

    python -m tests.mutants --only router --workers 2

tests/mutants.toml lists the faults. First all of its tests must pass without any. Then each fault
is put into a copy of the checkout, and its tests must fail there. Exit code 1 if a fault survived
or an entry no longer fits the code.
"""

import argparse
import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parent.parent
# Results, caches, and what is the developer's own.
_NOT_COPIED = shutil.ignore_patterns(
    *(".git", ".venv", ".data", ".env", "secrets", "staticfiles", "test-results", "node_modules"),
    *("__pycache__", ".*_cache", ".hypothesis"),
)
_TEST_SECONDS, _RUN_SECONDS, _END_SECONDS = 60, 150, 15
_LATE = "from pytest-timeout"
# Without a test's name it is a module that could not be imported.
_FAILED = re.compile(r"^(?:FAILED|ERROR) \S+::.*", re.MULTILINE)


@dataclass(frozen=True)
class Mutant:
    """A fault. symbol: `module:qualified.name`, in whose source `find` becomes `replace`.

    tests: pytest's ids of those that should fail, without parameters.
    """

    name: str
    symbol: str
    find: str
    replace: str
    tests: list[str]

    def path(self) -> Path:
        """The symbol's file, below the checkout. Raises LookupError."""
        module = self.symbol.partition(":")[0].replace(".", "/")
        for path in (Path(f"{module}.py"), Path(module, "__init__.py")):
            if (ROOT / path).is_file():
                return path
        raise LookupError(f"there is no {self.symbol}")

    def words(self) -> str:
        """The text that `--only` searches."""
        return " ".join((self.name, self.symbol, *self.tests))

    def applied(self, source: str) -> str:
        """The source with the fault. Raises LookupError."""
        where = _span(source, self.symbol.partition(":")[2])
        if (count := source[where].count(self.find)) != 1:
            raise LookupError(f"{self.symbol} has the text {count} times, not once")
        changed = source[where].replace(self.find, self.replace)
        return source[: where.start] + changed + source[where.stop :]

    def problem(self) -> str | None:
        """Why the entry does not fit the code or the tests, if so."""
        try:
            ast.parse(self.applied((ROOT / self.path()).read_text()))
        except (LookupError, SyntaxError) as error:
            return f"{self.name}: {error}"
        for test in self.tests:
            file, *names = test.split("::")
            text = (ROOT / file).read_text() if (ROOT / file).is_file() else ""
            if not text or not all(f"def {name}(" in text for name in names):
                return f"{self.name}: there is no test {test}"
        return None


def _span(source: str, qualified: str) -> slice:
    """The span of this class, function or variable in the source; empty if there is none."""
    node: ast.AST | None = ast.parse(source)
    for name in qualified.split("."):
        node = next((each for each in getattr(node, "body", ()) if name in _names(each)), None)
    if node is None:
        return slice(0)
    lines = source.splitlines(keepends=True)
    begin, end = node.lineno - 1, node.end_lineno  # type: ignore[attr-defined]
    return slice(len("".join(lines[:begin])), len("".join(lines[:end])))


def _names(node: ast.AST) -> list[str]:
    targets = [node, getattr(node, "target", None), *getattr(node, "targets", ())]
    return [getattr(each, "name", getattr(each, "id", "")) for each in targets]


def listed() -> list[Mutant]:
    """All entries."""
    entries = tomllib.loads((ROOT / "tests" / "mutants.toml").read_text())
    return [Mutant(name, **each) for name, each in entries.items()]


def run_tests(
    where: Path, tests: Iterable[str], *options: str, seconds: float | None
) -> tuple[int, str]:
    """pytest's exit code and output. After so many seconds it is interrupted."""
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-pno:cacheprovider"]
    process = subprocess.Popen(
        [*command, *options, *tests],
        cwd=where,
        # A fault's bytecode would outlive it.
        env=os.environ | ({"PYTHONDONTWRITEBYTECODE": "1"} if seconds else {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    # After Ctrl-C it stops its PostgreSQL; the second is for one that waits for its threads.
    output = told = ""
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGKILL, 0):
        try:
            output, _ = process.communicate(timeout=seconds)
            break
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            told, seconds = _LATE, _END_SECONDS
    return process.wait(), output + told


def strike(mutant: Mutant, copies: "SimpleQueue[Path]") -> tuple[str, str]:
    """The verdict, and the test that failed or the reason."""
    where = copies.get()
    path = where / mutant.path()
    source, times = path.read_text(), path.stat()
    try:
        path.write_text(mutant.applied(source))
        options = ("-x", "-n0", f"--timeout={_TEST_SECONDS}")
        code, output = run_tests(where, mutant.tests, *options, seconds=_RUN_SECONDS)
    finally:
        path.write_text(source)
        # As before, or its bytecode would be stale.
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        copies.put(where)
    failed = _FAILED.search(output)
    if code == 0:
        return "survived", ", ".join(mutant.tests)
    if _LATE in output:
        return "killed by time-out", failed[0] if failed else mutant.tests[0]
    return ("killed", failed[0]) if failed else ("broken entry", output[-2_000:])


def run(mutants: list[Mutant], workers: int, folder: Path) -> int:
    """The exit code."""
    began = time.monotonic()
    first = Path(shutil.copytree(ROOT, folder / "0", ignore=_NOT_COPIED))
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    print(f"{len(tests)} tests, without a fault", flush=True)
    code, output = run_tests(first, tests, f"-n{workers}", "--dist=loadfile", seconds=None)
    if code != 0:
        print(output[-10_000:])
        return 1
    copies: SimpleQueue[Path] = SimpleQueue()
    copies.put(first)
    for number in range(1, workers):
        copies.put(Path(shutil.copytree(first, folder / str(number))))
    verdicts: Counter[str] = Counter()
    with ThreadPoolExecutor(workers) as pool:
        struck = {pool.submit(strike, mutant, copies): mutant for mutant in mutants}
        try:
            for future in as_completed(struck):
                verdict, why = future.result()
                verdicts[verdict] += 1
                print(f"{verdict}: {struck[future].name}\n    {why}", flush=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    said = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
    print(f"{len(mutants)} faults in {time.monotonic() - began:.0f} s: {said}")
    return 1 if verdicts["survived"] or verdicts["broken entry"] else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutants")
    parser.add_argument("--only", default="", metavar="TEXT", help="in what an entry says")
    parser.add_argument("--workers", type=int, default=2, help="faults at a time (2)")
    options = parser.parse_args()
    only = options.only.lower()
    mutants = [each for each in listed() if only in each.words().lower()]
    problems = [problem for each in mutants if (problem := each.problem())]
    if problems or not mutants:
        sys.exit("\n".join(problems) or f"no entry says {options.only!r}")
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        return run(mutants, options.workers, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
