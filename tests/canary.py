"""A pickle that shows whether it was loaded."""

import os


class Canary:
    """Leave a folder at a path when the object is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)
