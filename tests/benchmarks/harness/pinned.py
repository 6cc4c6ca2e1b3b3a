"""Run a command on some cores; it is told to stop when whoever started it dies: `pinned.py 0,1 COMMAND ...`."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main():
    cores, *command = sys.argv[1:]
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
