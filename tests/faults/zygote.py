"""Loads Django once, and forks a process for each command that it reads from standard input.

The process runs manage.py's own main(). When it is forked it has no connection and no thread yet.
Commands and their results are lines of JSON.
"""

import json
import os
import select
import sys
import traceback
from typing import Any

# Of a command that ended with a traceback instead of a sentence.
UNCAUGHT = 70


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orgmgmt.settings")
    import django

    django.setup()
    _load_commands()
    running: dict[int, int] = {}
    _tell({"ready": True})
    pending = b""
    while True:
        readable, _, _ = select.select([0], [], [], 0.01 if running else 1.0)
        if readable:
            read = os.read(0, 65536)
            if not read:
                return
            *lines, pending = (pending + read).split(b"\n")
            for line in lines:
                order = json.loads(line)
                pid = _fork(order)
                running[pid] = order["id"]
                _tell({"id": order["id"], "pid": pid})
        for pid in list(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                _tell({"id": running.pop(pid), "code": code})


def _load_commands() -> None:
    from importlib import import_module

    from django.core.management import get_commands

    for name, app in get_commands().items():
        if isinstance(app, str) and not app.startswith("django."):
            import_module(f"{app}.management.commands.{name}")
    import_module("django.core.management.commands.migrate")
    import_module("orgmgmt.urls")


def _tell(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


def _fork(order: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        typed_read, typed_write = os.pipe()
        os.write(typed_write, order["typed"].encode())
        os.close(typed_write)
        os.dup2(typed_read, 0)
        output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ.update(order["environment"])
        sys.argv = ["manage.py", *order["arguments"]]
        import manage

        manage.main()
        code = 0
    except SystemExit as exit_:
        if isinstance(exit_.code, str):
            print(exit_.code, file=sys.stderr)
        else:
            code = exit_.code or 0
    except BaseException:
        traceback.print_exc()
        code = UNCAUGHT
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
