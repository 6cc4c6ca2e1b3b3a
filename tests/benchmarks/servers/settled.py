"""What zap does when it starts and whatever it is compared with gains by too: Python looks for cycles seldom."""

import gc


def settle():
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)
