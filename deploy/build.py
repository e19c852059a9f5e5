"""Follows a Dockerfile's stages in plain folders: COPY and RUN, with this machine's Python."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dockerfile import DockerfileError, Ignore, Instruction, Stage

# What RUN needs to reach a package index as this machine does.
FROM_HOST = re.compile(r"HOME|LANG|(PIP|SSL|REQUESTS)_\w+|\w+_proxy", re.IGNORECASE)
# RUN uses this machine's shell: it must not leave its folder, or change the system.
UNSAFE = re.compile(r"""(?:^|[\s="'])/(?!app\b|dev/null\b)|\b(?:apt|apt-get|apk|dnf|yum)\s""")


@dataclass
class Image:
    """A folder in place of a stage's file system, and the stage's settings."""

    root: Path
    workdir: Path
    env: dict[str, str]
    args: dict[str, str] = field(default_factory=dict)
    user: int | None = None
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    exposed: list[str] = field(default_factory=list)

    def mapped(self, text: str) -> str:
        """The text with /app, where it begins a path, replaced by this stage's folder."""
        return re.sub(r"(?<![\w./-])/app(?![\w.-])", str(self.root / "app"), text)

    def path(self, text: str) -> Path:
        """A path of the Dockerfile: below /app, or relative to WORKDIR."""
        if text.startswith("/") and not re.match(r"/app(/|$)", text):
            raise DockerfileError(f"{text} is neither relative nor below /app")
        return self.workdir / self.mapped(text)


class Build:
    """folder: where stages are made. python: the interpreter. context: what COPY copies from."""

    def __init__(self, folder: Path, python: str, context: Path) -> None:
        self._context = context
        self._folder = folder
        self._python = python
        self._images: dict[str, Image] = {}
        self._ignore = Ignore(context)

    def run(self, stages: list[Stage]) -> Image:
        """Each stage in turn; returns the last."""
        for stage in stages:
            print(f"stage {stage.name}, from {stage.image}")
            self._images[stage.name] = image = self._start(stage)
            for instruction in stage.instructions:
                getattr(self, f"_{instruction.name.lower()}")(image, instruction)
        return image

    def _start(self, stage: Stage) -> Image:
        if not re.match(r"python:3\.1[1-9]-slim", stage.image):
            raise DockerfileError(f"FROM {stage.image}: only the slim Python images are known here")
        root = self._folder / f"stage-{stage.name}"
        bin_folder = self._folder / f"bin-{stage.name}"
        for made in (root, bin_folder):
            made.mkdir(mode=0o755)
        # A script, not a link: a venv made by a link would look for its library next to the link.
        python = bin_folder / "python"
        python.write_text(f'#!/bin/sh\nexec {self._python} "$@"\n')
        python.chmod(0o755)
        path = f"{bin_folder}:/usr/local/bin:/usr/bin:/bin"
        return Image(root, root, {"PATH": path, "LANG": "C.UTF-8"})

    def _workdir(self, image: Image, instruction: Instruction) -> None:
        image.workdir = image.path(instruction.text)
        image.workdir.mkdir(parents=True, exist_ok=True)

    def _env(self, image: Image, instruction: Instruction) -> None:
        before = image.env | image.args

        def value_of(match: re.Match[str]) -> str:
            return before.get(match[1] or match[2], "")

        for name, value in instruction.pairs():
            image.env[name] = re.sub(r"\$(?:(\w+)|\{(\w+)\})", value_of, image.mapped(value))

    def _arg(self, image: Image, instruction: Instruction) -> None:
        image.args.update(instruction.pairs())

    def _run(self, image: Image, instruction: Instruction) -> None:
        if instruction.text.startswith(("[", "--")):
            raise instruction.error("only the shell form without options is understood")
        if UNSAFE.search(instruction.text):
            raise instruction.error("names a path outside /app, or changes the system")
        host = {name: value for name, value in os.environ.items() if FROM_HOST.fullmatch(name)}
        print(f"  RUN {instruction.text[:88]}")
        finished = subprocess.run(
            ["/bin/sh", "-c", image.mapped(instruction.text)],
            cwd=image.workdir,
            env=host | image.args | image.env,
            stdin=subprocess.DEVNULL,
            umask=0o022,
            **as_user(image.user),
        )
        if finished.returncode:
            raise instruction.error(f"exit code {finished.returncode}")

    def _copy(self, image: Image, instruction: Instruction) -> None:
        options, rest = instruction.options_and_rest("from", "chown", "chmod")
        *sources, target = rest.split()
        if not sources or re.search(r"[*?\[\"$]", rest):
            raise instruction.error(f"not understood: {rest}")
        into_folder = target.endswith(("/", ".")) or len(sources) > 1
        destination = image.path(target)
        copied: list[Path] = []
        for source in sources:
            if "from" in options:
                if options["from"] not in self._images:
                    raise instruction.error(f"no stage is called {options['from']}")
                origin = self._images[options["from"]].path(source)
                files = _tree(origin)
            else:
                origin = self._context / source.strip("/")
                files = _tree(origin, self._ignore)
            if not files:
                raise instruction.error(f"{source} is absent, or left out by .dockerignore")
            for file in files:
                if file == origin:
                    to = destination / file.name if into_folder else destination
                else:
                    to = destination / file.relative_to(origin)
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, to, follow_symlinks=False)
                copied.append(to)
        for path in copied:
            if "chmod" in options:
                path.chmod(int(options["chmod"], 8))
            if "chown" in options and os.geteuid() == 0:
                owner, _, group = options["chown"].partition(":")
                os.chown(path, int(owner), int(group or owner), follow_symlinks=False)
        print(f"  COPY {instruction.text}: {len(copied)} files")

    def _user(self, image: Image, instruction: Instruction) -> None:
        user, _, group = instruction.text.partition(":")
        if not user.isdigit() or group not in ("", user):
            raise instruction.error("only a number for user and group, the same, is understood")
        image.user = int(user)

    def _expose(self, image: Image, instruction: Instruction) -> None:
        image.exposed += instruction.text.split()

    def _healthcheck(self, image: Image, instruction: Instruction) -> None:
        _, rest = instruction.options_and_rest("interval", "timeout", "start-period", "retries")
        image.healthcheck = instruction.exec_form(rest.removeprefix("CMD").strip())

    def _cmd(self, image: Image, instruction: Instruction) -> None:
        image.command = [image.mapped(a) for a in instruction.exec_form(instruction.text)]


def as_user(user: int | None) -> dict[str, Any]:
    """The arguments of subprocess that change to a user; none where this process may not."""
    if user is None or os.geteuid() != 0:
        return {}
    return {"user": user, "group": user, "extra_groups": []}


def _tree(origin: Path, ignore: Ignore | None = None) -> list[Path]:
    """The files and links at or below a path, without what .dockerignore leaves out."""

    def kept(path: Path) -> bool:
        return ignore is None or not ignore.leaves_out(path)

    if origin.is_file():
        return [origin] if kept(origin) else []
    found: list[Path] = []
    for name, folders, files in os.walk(origin):
        here = Path(name)
        links = [folder for folder in folders if (here / folder).is_symlink()]
        found += [here / file for file in files + links if kept(here / file)]
        # Enter an ignored folder only if an exception could include a part of it.
        enter_all = ignore is not None and ignore.has_exceptions
        folders[:] = [
            folder
            for folder in folders
            if folder not in links and (enter_all or kept(here / folder))
        ]
    return found
