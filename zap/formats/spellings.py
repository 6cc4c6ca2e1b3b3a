"""The spellings of a name: texts that differ only in upper and lower case, or in spaces, are one name."""

from collections.abc import Mapping

from zap.ml.cells import plain_text


def name_key(text: str) -> str:
    """Return the form of a text that all spellings of the name share."""
    return plain_text(text).casefold()


def frequent_spellings(counts: Mapping[str, int]) -> dict[str, str]:
    """Return for each text to replace the most frequent spelling of its name.

    If spellings are equally frequent, the first in the order of texts is kept. The order of the texts has no effect.

    Args:
        counts: how many sessions have each text.
    """
    ordered = sorted(counts, key=lambda text: (-counts[text], text))
    spellings: dict[str, str] = {}
    for text in ordered:
        spellings.setdefault(name_key(text), text)
    return {text: to for text in ordered if (to := spellings[name_key(text)]) != text}


def joined_spellings(first: Mapping[str, str], later: Mapping[str, str]) -> dict[str, str]:
    """Return the replacements of texts after two steps, without the texts that have not changed after both steps."""
    joined = {text: later.get(to, to) for text, to in first.items()}
    return {text: to for text, to in ({**later, **joined}).items() if text != to}
