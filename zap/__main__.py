"""The program `zap`: Ctrl-C ends it in a sentence also while Python still loads its modules."""

import sys


def run() -> None:
    """Run the command line, and exit with its exit code."""
    try:
        from zap.cli import main  # noqa: PLC0415 - inside, so that Ctrl-C is heard while it loads

        main()
    except KeyboardInterrupt:
        sys.stderr.write("Error: the command was interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    run()
