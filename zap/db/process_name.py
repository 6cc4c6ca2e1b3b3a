"""The name of a process in the database: no two processes on any machines have one name."""

import os
import secrets
import socket


def new_process_name() -> str:
    """Return a name for something that this process does: its machine, its number, and a random part."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
