"""Unicode folding: makes spellings that a person would confuse compare equal."""

import re
import unicodedata

# An i, marks below or beside it, and a dot that it has anyway.
_DOTTED = re.compile("i([\u0316-\u0319\u031c-\u0333\u0339-\u033c]*)\u0307")


def folded(text: str) -> str:
    """The text without case and compatibility forms, and with one i: ı, I, i and İ are the same.

    Unicode's compatibility caseless match (D146), which casefold() alone is not: letters must be
    decomposed before as well as after, so that the iota below a ᾼ comes after its accent.
    """
    for _ in range(2):
        text = unicodedata.normalize("NFKD", text).casefold()
    text = unicodedata.normalize("NFKD", text).replace("ı", "i")
    return unicodedata.normalize("NFKC", _DOTTED.sub(r"i\1", text))
