"""Checks the Dockerfile without Docker: builds it in plain folders, starts its CMD, sends requests.

Each stage is a folder with `app` for /app. COPY and RUN do what they say, with this machine's
Python. If this runs as root, the CMD runs as the Dockerfile's USER. Exit code 1 if anything fails
or is unknown.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from build import Build, Image, as_user
from dockerfile import DockerfileError, read_stages
from production import PROJECT, master_database, random_secrets, reachable_folder
from relay import relay

# What must not be in an image.
FORBIDDEN = (".git", ".env", ".venv", ".data", ".ci", "deploy", "secrets", "tests")
# Not the address that HEALTHCHECK connects to: in production that is rarely an allowed host.
PUBLIC_HOST = "api.example.com"
START_SECONDS = 90.0
STOP_SECONDS = 30.0


def find_python(user: int | None) -> tuple[str, int | None]:
    """A Python >= 3.11 that this user can run, and the user; otherwise the current one and None."""
    names = ("python3", "python3.14", "python3.13", "python3.12", "python3.11")
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    candidates = [str(Path(folder) / name) for name in names for folder in folders]
    probe = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"
    for python in candidates:
        try:
            command = [python, "-I", "-c", probe]
            done = subprocess.run(command, cwd="/", capture_output=True, **as_user(user))
        except OSError:
            continue
        if done.returncode == 0:
            return python, user
    print(f"No Python here can be run by user {user}: everything runs as the current user.")
    return getattr(sys, "_base_executable", sys.executable), None


@contextmanager
def started(image: Image, environment: dict[str, str], log: IO[bytes]) -> Iterator[str]:
    """Start the CMD, wait until the HEALTHCHECK succeeds, and stop it by SIGTERM as Docker does."""
    place: dict[str, Any] = {"cwd": image.workdir, "env": environment, **as_user(image.user)}
    process = subprocess.Popen(
        image.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0, **place
    )
    try:
        start = time.monotonic()
        while True:
            health = subprocess.run(image.healthcheck, capture_output=True, timeout=10, **place)
            if health.returncode == 0:
                break
            if process.poll() is not None:
                raise DockerfileError(f"CMD ended with exit code {process.returncode}")
            if time.monotonic() - start > START_SECONDS:
                raise DockerfileError(
                    f"HEALTHCHECK never succeeded: {health.stderr.decode()[-300:]}"
                )
            time.sleep(0.5)
        print(f"HEALTHCHECK succeeded after {time.monotonic() - start:.1f} s")
        yield f"http://127.0.0.1:{environment['PORT']}"
        process.terminate()
        start = time.monotonic()
        code = process.wait(STOP_SECONDS)
        if code != 0:
            raise DockerfileError(f"CMD ended with exit code {code} after SIGTERM")
        print(f"SIGTERM stopped it after {time.monotonic() - start:.1f} s with exit code 0")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def use(address: str) -> None:
    """Sign an organization up, log its admin in, and fetch the pages and a static file."""
    person = {"email": "ada@example.com", "password": "a-long-Passphrase-42"}
    _ask(201, f"{address}/org/create", person | {"organization_name": "Docker Check"})
    _ask(200, f"{address}/admin/login?organization_name=Docker+Check", person)
    for path in ("/", "/docs", "/openapi.json", "/static/admin/css/base.css"):
        _ask(200, address + path)


def _ask(expected: int, url: str, body: dict[str, str] | None = None) -> None:
    data = json.dumps(body).encode() if body else None
    headers = {"Content-Type": "application/json", "Host": PUBLIC_HOST}
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            status, text = response.status, response.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    print(f"{request.get_method()} {url}: {status}, {len(text)} bytes")
    if status != expected:
        raise DockerfileError(f"{url} answered {status} and not {expected}: {text[:300]!r}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_secrets(folder: Path, values: dict[str, str]) -> dict[str, str]:
    """Writes each value into a file, and returns the <NAME>_FILE settings."""
    folder.mkdir(mode=0o711)
    for name, value in values.items():
        (folder / name).write_text(value)
        (folder / name).chmod(0o444)
    return {f"{name}_FILE": str(folder / name) for name in values}


def check(image: Image) -> None:
    """Checks an image without starting it."""
    for name in FORBIDDEN:
        if (image.root / "app" / name).exists():
            raise DockerfileError(f"{name} is in the image: add it to .dockerignore")
    if image.user in (None, 0):
        raise DockerfileError("the image runs as root: give it a USER")
    if not image.command or not image.healthcheck:
        raise DockerfileError("the last stage needs a CMD and a HEALTHCHECK")
    if image.exposed != [image.env.get("PORT")]:
        raise DockerfileError(f"EXPOSE says {image.exposed}, PORT is {image.env.get('PORT')}")


def run(folder: Path) -> None:
    stages = read_stages(PROJECT / "Dockerfile")
    users = [i.text for i in stages[-1].instructions if i.name == "USER"]
    python, user = find_python(int(users[-1].partition(":")[0]) if users else None)
    image = Build(folder, python, PROJECT).run(stages)
    check(image)
    image.user = user
    print(f"CMD runs as user {os.geteuid() if user is None else user}, with {python}")
    with master_database(folder / "data") as database:
        unix_socket = Path(database["MASTER_DB_HOST"], f".s.PGSQL.{database['MASTER_DB_PORT']}")
        with relay(unix_socket) as port:
            database |= {"MASTER_DB_HOST": "127.0.0.1", "MASTER_DB_PORT": str(port)}
            start_and_use(image, database, folder)


def start_and_use(image: Image, database: dict[str, str], folder: Path) -> None:
    """Like compose.yaml: secrets in files, plain http. Shows its output if it fails."""
    password = {"MASTER_DB_PASSWORD": database.pop("MASTER_DB_PASSWORD")}
    environment = image.env | database
    environment |= write_secrets(folder / "secrets", random_secrets() | password)
    environment |= {
        "HOST": "127.0.0.1",
        "PORT": str(free_port()),
        "ALLOWED_HOSTS": PUBLIC_HOST,
        "HTTPS_ONLY": "off",
    }
    with (folder / "log").open("w+b") as log:
        try:
            with started(image, environment, log) as address:
                use(address)
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace"))
            raise


def main() -> int:
    start = time.monotonic()
    try:
        with reachable_folder() as folder:
            run(folder)
    except (DockerfileError, OSError, subprocess.SubprocessError) as error:
        print(f"The Dockerfile does not work: {error}", file=sys.stderr)
        return 1
    seconds = time.monotonic() - start
    print(f"The Dockerfile works: built, started, used and stopped in {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
