"""nginx in front of servers, with blocks of the manual's examples."""

import contextlib
import os
import re
import shutil
import subprocess
from pathlib import Path

from servers import listens, until

OPERATING = (Path(__file__).resolve().parents[2] / "zap" / "manual" / "operating.md").read_text()
# Debian has it where only root's PATH leads.
PROGRAM = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def example(n):
    """Return the block number `n` of nginx's configuration in the manual's page about operating."""
    return re.findall(r"```nginx\n(.*?)```", OPERATING, re.DOTALL)[n]


@contextlib.contextmanager
def running(folder, http, ports):
    """Run nginx with a configuration of `http` in a folder until the end of the block, when these ports answer."""
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.getuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user} daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
        f"http {{ access_log off;\n{temporary}{http}}}\n"
    )
    with subprocess.Popen([PROGRAM, "-p", folder, "-c", folder / "nginx.conf"]) as process:
        try:
            for port in ports:
                until(lambda port=port: listens(port))
            yield process
        finally:
            process.terminate()
