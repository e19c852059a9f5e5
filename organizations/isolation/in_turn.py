"""Isolation attempts: B's request, then A's, in one process, to catch views that keep state."""

from .attempts import attempt
from .calls import send
from .credentials import refuse_errors
from .http import FAMILY, call_of, everything, expect
from .outcome import Crossed
from .stage import Stage


@attempt(FAMILY, "A's call after the same call of B's, in one process", over=everything)
def after_theirs(stage: Stage, key: str) -> str:
    call = call_of(key)
    first = send(stage.theirs.by_token(), key, stage.theirs, stage.ours)
    refuse_errors(first)
    stage.forgive()
    answer = send(stage.ours.by_token(), key, stage.ours, stage.theirs)
    if stage.theirs.traces_in(answer.content):
        raise Crossed(f"answered {answer.status_code} with something of B's")
    expect(call, answer)
    return f"{answer.status_code}, nothing of B's"
