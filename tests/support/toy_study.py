"""A toy study in TOML, and the installed command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

COMMAND = Path(sys.executable).with_name("speechscale")
# The beginning of the table of ladders of one layer; `sizes` and `budgets` follow.
TINY_LADDER = """
[ladder]
context = 32
hidden_multiple = 8
preset = "modern"
precision = "float32"
curve = 1
""".strip()
STUDY = """
name = "toy"
title = "Toy"
question = "Does it run?"
[world]
prose = 300
stories = 60
test = 30
items = 30
items_per_phenomenon = 4
voices = ["en-us"]
voices_unseen = ["en-us+f2"]
words_per_minute = 320
[units]
minutes_per_shard = 2
[units.kmeans]
clusters = 40
utterances = 30
[ladder]
context = 128
hidden_multiple = 16
preset = "modern"
curve = 1
checkpoint_steps = 5
sizes = [
  { layers = 1, dim = 16, heads = 1, batch = 4, peak_lr = 4e-3 },
  { layers = 2, dim = 32, heads = 1, batch = 4, peak_lr = 4e-3 },
]
budgets = [{ tokens = 6_000 }, { tokens = 12_000 }, { tokens = 12_000, unique = 6_000 }]
[laws]
bootstrap = 100
"""


def speechscale(*arguments: str | Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=240)
    assert done.returncode == expect, done.stderr
    return done
