"""The completion of the shells, as the manual documents it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import zap

REFERENCE = (Path(zap.__file__).parent / "manual" / "reference.md").read_text(encoding="utf-8")
LINES = dict(re.findall(r"^\| (bash|zsh|fish)[^|]* \| `((?:[^`])+)` \|", REFERENCE, re.MULTILINE))

# What is typed, and some of the words that bash offers for its last word.
TYPED = {
    ("zap", "mo"): {"models"},
    ("zap", "models", ""): {"list", "show", "promote", "rollback", "history", "reproduce", "compare"},
    ("zap", "train", "--pro"): {"--promote"},
    ("zap", "train", "--promote", ""): {"always", "if_better", "never"},
    ("zap", "train", "--set", "num"): {"num_leaves=40"},
    ("zap", "predict", "--on-error", "s"): {"skip"},
    ("zap", "explain-prediction", "--js"): {"--json"},
}


@pytest.fixture
def environment():
    """The environment of a shell in which `zap` is found."""
    folder = Path(sys.executable).parent
    assert shutil.which("zap", path=folder)
    return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(Path(zap.__file__).parents[1])}


def test_bash_offers_what_can_be_typed(environment):
    script = [LINES["bash"], "complete -p zap"]
    for words in TYPED:
        script += [
            f"COMP_WORDS=({' '.join(repr(word) for word in words)}) COMP_CWORD={len(words) - 1}",
            "COMPREPLY=(); _zap_completion zap; echo ${COMPREPLY[@]}",
        ]

    done = subprocess.run(
        ["bash", "--norc", "-euc", "\n".join(script)], env=environment, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    registered, *offered = done.stdout.splitlines()
    assert registered.endswith("_zap_completion zap")
    for (words, wanted), found in zip(TYPED.items(), offered, strict=True):
        assert wanted <= set(found.split()), words


@pytest.mark.parametrize(
    ("shell", "says"), [("zsh", "compdef _zap_completion zap"), ("fish", "complete --no-files --command zap")]
)
def test_the_other_shells_get_their_script(environment, shell, says):
    assert f"_ZAP_COMPLETE={shell}_source zap" in LINES[shell]
    asked = environment | {"_ZAP_COMPLETE": f"{shell}_source"}

    done = subprocess.run(["zap"], env=asked, capture_output=True, text=True, check=True)

    assert says in done.stdout
    # A shell of this name reads it, where there is one.
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=done.stdout, text=True, check=True)


def test_the_words_of_the_other_shells_are_those_of_bash(environment):
    for shell, more in (("zsh", {"COMP_CWORD": "2"}), ("fish", {"COMP_CWORD": ""})):
        asked = environment | {"_ZAP_COMPLETE": f"{shell}_complete", "COMP_WORDS": "zap models", **more}
        done = subprocess.run(["zap"], env=asked, capture_output=True, text=True, check=True)
        assert "promote" in done.stdout, shell
