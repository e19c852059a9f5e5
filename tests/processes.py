"""Starts Python processes quickly, by forking one that has the libraries loaded.

Loading libraries is half of each start of Django, and the tests start several hundred processes.
No module of the project is loaded before the fork, and no setting read.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType

# None of them reads Django's settings when it is loaded.
_LIBRARIES = [
    *("django.core.management", "django.db.models", "django.forms", "django.test.client"),
    *("django.db.backends.postgresql.base", "django.core.handlers.wsgi", "django.views.debug"),
    *("django.views.generic", "django.template.loader", "django.contrib.auth.hashers"),
    *("django.core.cache.backends.redis", "django.contrib.sessions.backends.db"),
    *("psycopg", "cryptography.fernet", "argon2", "bcrypt", "jwt", "redis.asyncio", "requests"),
    *("procrastinate", "rest_framework.serializers", "jsonschema", "uritemplate", "yaml"),
    *("whitenoise.middleware", "corsheaders.middleware", "environ", "asyncio"),
    *("gunicorn.app.wsgiapp", "gunicorn.workers.gthread"),
]
_forked = multiprocessing.get_context("forkserver")
_forked.set_forkserver_preload(_LIBRARIES)


def run(
    *arguments: str, cwd: Path, env: Mapping[str, str], input: str = "", timeout: float = 100
) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS` (a file, -m or -c) like subprocess.run() with captured output.

    Raises subprocess.TimeoutExpired.
    """
    with tempfile.TemporaryDirectory() as folder:
        typed, out, err = (Path(folder) / name for name in ("in", "out", "err"))
        typed.write_text(input)
        process = _started(arguments, cwd, env, (typed, out, err))
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(arguments, timeout)
        written = (each.read_text() if each.exists() else "" for each in (out, err))
        return subprocess.CompletedProcess(arguments, process.exitcode, *written)


@contextmanager
def running(
    *arguments: str, cwd: Path, env: Mapping[str, str], log: Path, seconds: float = 40
) -> Iterator[BaseProcess]:
    """`python ARGUMENTS` during the block, writing to the log; terminated after it.

    seconds: that it has to end before it is killed.
    """
    process = _started(arguments, cwd, env, (Path(os.devnull), log, log))
    try:
        yield process
    finally:
        process.terminate()
        process.join(seconds)
        process.kill()
        process.join()


def _started(
    arguments: Sequence[str], cwd: Path, env: Mapping[str, str], files: Sequence[Path]
) -> BaseProcess:
    named = [str(file) for file in files]
    process = _forked.Process(target=_be, args=(arguments, str(cwd), dict(env), named))
    process.start()
    return process


def _be(arguments: Sequence[str], cwd: str, env: dict[str, str], files: Sequence[str]) -> None:
    """Become that process, and exit with it."""
    for number, (file, flags) in enumerate(
        zip(files, (os.O_RDONLY, *[os.O_WRONLY | os.O_CREAT | os.O_APPEND] * 2), strict=True)
    ):
        os.dup2(os.open(file, flags, 0o600), number)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    here = str(Path(__file__).resolve().parents[1])
    more = [each for each in env.get("PYTHONPATH", "").split(os.pathsep) if each]
    sys.path[:] = [cwd, *more, *(each for each in sys.path if each not in ("", here, cwd))]
    code: int | str | None = 0
    try:
        _execute(list(arguments))
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code or 0)


def _execute(arguments: list[str]) -> None:
    match arguments:
        case ["-c", source, *rest]:
            sys.argv = ["-c", *rest]
            main = sys.modules["__main__"] = ModuleType("__main__")
            exec(compile(source, "<string>", "exec"), main.__dict__)  # noqa: S102
        case ["-m", module, *rest]:
            sys.argv = [module, *rest]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case [file, *rest]:
            sys.argv = [file, *rest]
            runpy.run_path(file, run_name="__main__")
