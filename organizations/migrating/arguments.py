"""Parses and rebuilds the arguments of `migrate_orgs [ORG…] [APP [MIGRATION]]`."""

import re
import shlex
from collections.abc import Collection, Sequence
from typing import Any

from .engine import Target
from .fleet import Canary


class Unclear(ValueError):
    """The words are ambiguous; the message says how to write them."""


def split(words: Sequence[str], *, labels: Collection[str]) -> tuple[list[str], Target]:
    """The organizations' names, and the target.

    A word that exactly matches a tenant app's label is the app; only a migration may follow it.
    Words before it are organizations. Raises Unclear.
    """
    at = next((index for index, word in enumerate(words) if word in labels), None)
    if at is None:
        return list(words), Target()
    following = words[at + 1 :]
    if len(following) > 1:
        raise Unclear(
            f"{words[at]!r} is a tenant app: only a migration can follow it. Put organizations "
            f"before it. For an organization of that name: --org {shlex.quote(words[at])}"
        )
    return list(words[:at]), Target(words[at], following[0] if following else None)


def canary(text: str) -> Canary:
    """`3` or `5%`. Raises Unclear."""
    if re.fullmatch(r"[1-9]\d*", text):
        return Canary(number=int(text))
    found = re.fullmatch(r"(\d+(?:\.\d+)?)%", text)
    if found and 0 < float(found[1]) <= 100:
        return Canary(percent=float(found[1]))
    raise Unclear(f"--canary takes a number or a share of the organizations: 3 or 5%, not {text!r}")


def command(
    options: dict[str, Any], target: Target, *, labels: Collection[str], **changes: Any
) -> str:
    """The command with these options, as typed in a shell."""
    options = options | changes
    words = ["manage.py", "migrate_orgs"]
    for name in options["names"]:
        is_clear = name not in labels and not name.startswith("-")
        words += [name] if is_clear else [f"--org={name}"]
    words += [f"--{flag}" for flag in ("verify", "retry-failed", "yes") if options[_key(flag)]]
    for flag in ("parallel", "canary", "max-failures"):
        if options[_key(flag)]:
            words += [f"--{flag}", str(options[_key(flag)])]
    words += [word for word in (target.label, target.name) if word is not None]
    return shlex.join(words)


def _key(flag: str) -> str:
    return flag.replace("-", "_")
