"""The rule for a few missing values, in LightGBM's text of the trees: a missing value goes to the larger child."""

import re
from collections.abc import Collection

# The bits of `decision_type` in LightGBM's text of a tree.
_IS_CATEGORY = 0b1
_MISSING_GO_LEFT = 0b10
_NAN_IS_MISSING = 0b1000


def to_larger_children(trees: str, columns: Collection[int]) -> str:
    """Return the text of a booster with new directions: missing values of some columns go to the larger child.

    The larger child has more training rows; if both have equally many, it is the right child, as in scikit-learn. Nodes
    that split on categories are not changed.

    Args:
        trees: the text of a booster, from `Booster.model_to_string()`.
        columns: the places of the columns whose nodes are changed.
    """
    before_end, end, rest = trees.partition("\nend of trees\n")
    head, *blocks = re.split(r"(?m)^(?=Tree=)", before_end)
    edited = [_edited(block, columns) for block in blocks]
    # LightGBM finds a tree in the text by the sizes of the trees before it, so the sizes are updated.
    before = re.search(r"(?m)^tree_sizes=(.*)$", head)
    if before is None:
        raise ValueError("the text is not the text of a booster: it has no line tree_sizes")
    sizes = [int(size) + len(new) - len(old) for size, new, old in zip(before[1].split(), edited, blocks, strict=True)]
    start, stop = before.span(1)
    return "".join([head[:start], " ".join(map(str, sizes)), head[stop:], *edited, end, rest])


def _edited(tree: str, columns: Collection[int]) -> str:
    """Return the text of one tree with the new directions."""
    lines = tree.split("\n")
    # A tree without a split has no values in these lines.
    values = {name: text.split() for name, _, text in (line.partition("=") for line in lines)}
    rows_below, rows_in_leaf = values["internal_count"], values["leaf_count"]

    def rows(child: str) -> int:
        # Leaves have negative numbers.
        place = int(child)
        return int(rows_below[place] if place >= 0 else rows_in_leaf[~place])

    decisions = values["decision_type"]
    children = zip(values["left_child"], values["right_child"], strict=True)
    for node, (feature, (left, right)) in enumerate(zip(values["split_feature"], children, strict=True)):
        if int(feature) in columns and not int(decisions[node]) & _IS_CATEGORY:
            decisions[node] = str(_NAN_IS_MISSING | (_MISSING_GO_LEFT if rows(left) > rows(right) else 0))
    return "\n".join(
        f"decision_type={' '.join(decisions)}" if line.startswith("decision_type=") else line for line in lines
    )
