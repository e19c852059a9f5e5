"""Strict JSON parser: refuses duplicate names, NUL characters, deep nesting and NaN with a 400."""

import json
from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

# The API's own bodies need only two levels.
MAX_DEPTH = 32


class StrictJSONParser(JSONParser):
    """JSON; refuses with a 400 what later code could not store or print."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The parsed body. Raises ParseError, also for NUL, lone surrogates, deep nesting
        and duplicate names."""
        try:
            text = stream.read().decode()
            parsed: dict[str, Any] = json.loads(
                text, parse_constant=_refuse_constant, object_pairs_hook=_object
            )
        except RecursionError:
            raise ParseError("The JSON is nested too deeply.") from None
        except UnicodeDecodeError:
            raise ParseError("The body is not valid UTF-8. Send JSON in UTF-8.") from None
        except json.JSONDecodeError as error:
            where = f"line {error.lineno}, column {error.colno}"
            raise ParseError(f"The body is not valid JSON ({where}).") from None
        except ValueError:
            # Only this error is left: an integer with more digits than Python reads (4,300).
            raise ParseError("The JSON contains a number that is too long.") from None
        if not isinstance(parsed, dict):
            raise ParseError("The body must be a JSON object.")
        _refuse_unstorable(parsed, MAX_DEPTH)
        return parsed


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object. Duplicate names are refused: some parsers take the first, some the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ParseError("The JSON has a duplicate name in an object.")
    return found


def _refuse_constant(name: str) -> None:
    raise ParseError(f"The JSON contains {name}, which is not valid JSON.")


def _refuse_unstorable(value: Any, depth: int) -> None:
    if depth == 0:
        raise ParseError("The JSON is nested too deeply.")
    if isinstance(value, str):
        if "\x00" in value:
            raise ParseError("The JSON contains a NUL character, which cannot be stored.")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ParseError("The JSON contains a lone surrogate (invalid text).") from None
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_unstorable(key, depth - 1)
            _refuse_unstorable(item, depth - 1)
    elif isinstance(value, list):
        for item in value:
            _refuse_unstorable(item, depth - 1)
