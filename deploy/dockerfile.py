"""Reads a Dockerfile and a .dockerignore: the part of their language that this project uses.

What it does not know is an error (DockerfileError), never ignored.
"""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

KNOWN = {"ARG", "CMD", "COPY", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "RUN", "USER", "WORKDIR"}


class DockerfileError(Exception):
    """The Dockerfile says something that this reader does not know, or that cannot be done."""


@dataclass(frozen=True)
class Instruction:
    line: int
    name: str
    text: str

    def error(self, reason: str) -> DockerfileError:
        return DockerfileError(f"Dockerfile line {self.line}, {self.name}: {reason}")

    def options_and_rest(self, *allowed: str) -> tuple[dict[str, str], str]:
        """The leading --name=value options, and the text after them."""
        options, rest = {}, self.text
        while match := re.match(r"--([a-z-]+)=(\S+)\s+", rest):
            if match[1] not in allowed:
                raise self.error(f"unknown option --{match[1]}")
            options[match[1]] = match[2]
            rest = rest[match.end() :]
        if rest.startswith("--"):
            raise self.error(f"unknown option {rest.split()[0]}")
        return options, rest

    def exec_form(self, text: str) -> list[str]:
        """The arguments of a command written as a JSON list."""
        try:
            arguments = json.loads(text)
        except ValueError as error:
            raise self.error("the command is not in exec form (a JSON list)") from error
        if not isinstance(arguments, list) or not all(isinstance(a, str) for a in arguments):
            raise self.error("the command is not a list of strings")
        return arguments

    def pairs(self) -> Iterator[tuple[str, str]]:
        for word in shlex.split(self.text):
            name, equals, value = word.partition("=")
            if not equals:
                raise self.error(f"{word} is not NAME=value")
            yield name, value


@dataclass(frozen=True)
class Stage:
    name: str
    image: str
    instructions: list[Instruction] = field(default_factory=list)


def read_stages(path: Path) -> list[Stage]:
    """The stages of a Dockerfile, in order. A stage without a name is called by its number."""
    stages: list[Stage] = []
    for instruction in _instructions(path.read_text()):
        if instruction.name == "FROM":
            match = re.fullmatch(
                r"([\w.:/@-]+)(?:\s+AS\s+([\w-]+))?", instruction.text, re.IGNORECASE
            )
            if not match:
                raise instruction.error(f"not understood: {instruction.text}")
            stages.append(Stage(match[2] or str(len(stages)), match[1]))
        elif not stages:
            raise instruction.error("comes before the first FROM")
        else:
            stages[-1].instructions.append(instruction)
    if not stages:
        raise DockerfileError(f"{path} has no FROM")
    return stages


def _instructions(text: str) -> Iterator[Instruction]:
    parts: list[str] = []
    start = 0
    for number, line in enumerate(text.splitlines(), 1):
        # Like Docker, ignore a comment inside a continued instruction.
        if line.lstrip().startswith("#") or not line.strip():
            continue
        start = start if parts else number
        continued = line.rstrip().endswith("\\")
        parts.append(line.strip().removesuffix("\\").strip())
        if continued:
            continue
        name, _, rest = " ".join(parts).partition(" ")
        parts = []
        instruction = Instruction(start, name.upper(), rest.strip())
        if instruction.name not in KNOWN:
            raise instruction.error("unknown instruction")
        if "<<" in instruction.text and instruction.name in {"RUN", "COPY"}:
            raise instruction.error("here-documents are not understood")
        yield instruction
    if parts:
        raise DockerfileError(f"Dockerfile line {start}: nothing continues the last line")


class Ignore:
    """What a .dockerignore leaves out: of the patterns that match a path or a parent, the last."""

    def __init__(self, context: Path) -> None:
        self._context = context
        self._rules: list[tuple[re.Pattern[str], bool]] = []
        path = context / ".dockerignore"
        for line in path.read_text().splitlines() if path.exists() else []:
            pattern = line.strip()
            if not pattern or pattern.startswith("#"):
                continue
            keeps = pattern.startswith("!")
            self._rules.append((_compile(pattern.removeprefix("!").strip("/")), keeps))

    def leaves_out(self, path: Path) -> bool:
        """path: below the context."""
        relative = path.relative_to(self._context).as_posix()
        left_out = False
        for pattern, keeps in self._rules:
            if pattern.fullmatch(relative):
                left_out = not keeps
        return left_out

    @property
    def has_exceptions(self) -> bool:
        return any(keeps for _, keeps in self._rules)


def _compile(pattern: str) -> re.Pattern[str]:
    wildcards = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    if "[" in pattern:
        raise DockerfileError(f".dockerignore: {pattern}: classes are not understood")
    body = "".join(wildcards.get(piece, re.escape(piece)) for piece in pieces)
    return re.compile(f"{body}(?:/.*)?", re.DOTALL)
