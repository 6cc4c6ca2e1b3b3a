"""Of what zap does when it starts that by which all gain that it is compared with: Python looks for cycles seldom."""

import gc


def settle():
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)
