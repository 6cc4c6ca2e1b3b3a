"""The sentences that zap says in English: in errors, reasons, alarms and reports.

A sentence is written as a template with named values, and everything that zap sends or stores holds the plain English
text. `make catalogue` collects the templates, and `zap.pages.sentences` says their sentences in other languages.
"""


def say(template: str, /, **values: object) -> str:
    """Return a sentence.

    Args:
        template: the sentence with the names of its values in braces, as `str.format` reads it.
        **values: the values.
    """
    return template.format(**values)


def say_many(one: str, many: str, n: int, /, **values: object) -> str:
    """Return a sentence about a number of things.

    Args:
        one: the template for one thing.
        many: the template for any other number of things.
        n: the number, which is the value `n` in the templates.
        **values: the other values.
    """
    return (one if n == 1 else many).format(n=n, **values)


def phrase(template: str) -> str:
    """Mark a template that stands in a table, or a phrase that is a value of other templates, for the catalogue."""
    return template
