"""The differences of two tables whose rows come in the order of their keys."""

from collections.abc import Callable, Iterator

from zap.db.moving.table_rows import Key, Row


def paired(
    source: Iterator[Row], target: Iterator[Row], key_of: Callable[[Row], Key]
) -> Iterator[tuple[Row | None, Row | None]]:
    """Yield for each key the row of the source and the row of the target, or None if there is no such row.

    It ends with the last row of the target. Later rows of the source are not yielded.

    Args:
        source: the rows of the source.
        target: the rows of the target.
        key_of: returns the key of a row.
    """
    ours, theirs = next(source, None), next(target, None)
    while ours is not None and theirs is not None:
        if ours == theirs:
            yield ours, theirs
            ours, theirs = next(source, None), next(target, None)
            continue
        our_key, their_key = key_of(ours), key_of(theirs)
        if our_key == their_key:
            yield ours, theirs
            ours, theirs = next(source, None), next(target, None)
        elif our_key < their_key:
            yield ours, None
            ours = next(source, None)
        else:
            yield None, theirs
            theirs = next(target, None)
    if theirs is not None:
        yield None, theirs
        yield from ((None, row) for row in target)
