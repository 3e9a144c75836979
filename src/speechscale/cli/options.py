"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

# Models.
RunFolder = Annotated[Path, typer.Argument(help="Folder of a run: model.safetensors.")]
Model = Annotated[
    str,
    typer.Argument(
        help="A run's folder or safetensors, the study's release, or a causal LM of Hugging Face over units: a "
        "folder, or owner/name@revision."
    ),
]
UnitOffset = Annotated[
    int | None,
    typer.Option(min=0, help="Token of unit 0, for a Hugging Face model whose config.json has no `offset`."),
]
ModelPrecision = Annotated[
    Literal["auto", "float32", "bfloat16"], typer.Option(help="Number format of the matrix products.")
]

# Files and folders.
NewFolder = Annotated[Path, typer.Option("--out", "-o", help="Folder to write; must not exist yet.")]
ManifestRoot = Annotated[
    Path | None, typer.Option(help="What audio paths are relative to.  [default: the manifest's folder]")
]
CorpusRoot = Annotated[
    Path | None,
    typer.Option(help="Folder that audio paths are relative to and may not leave.  [default: that of PATH]"),
]

# Encoding.
Codebook = Annotated[Path, typer.Option("--code-book", help="Codebook from `speechscale kmeans`.")]
Minutes = Annotated[float, typer.Option(min=0.01, help="Audio per shard, which is the unit of work.")]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Device of a neural encoder.")]
EncoderPrecision = Annotated[
    Literal["float32", "bfloat16"],
    typer.Option(help="bfloat16 is faster and changes a few units; the share is measured and printed."),
]
BatchSeconds = Annotated[
    float,
    typer.Option(min=1.0, help="Seconds of audio in one batch of a neural encoder; more for a large GPU."),
]

# Workers.
EngineName = Annotated[
    Literal["local", "ray"], typer.Option(help="local: processes of this machine; ray: a cluster.")
]
RayAddress = Annotated[
    str | None,
    typer.Option(help="Address of the cluster.  [default: RAY_ADDRESS, else a local Ray is started]"),
]
EncodingWorkers = Annotated[
    int | None,
    typer.Option(
        min=1, help="Worker processes.  [default: one per GPU if the encoder uses GPUs, else one per core]"
    ),
]
Processes = Annotated[int | None, typer.Option(min=1, help="Number of processes.  [default: one per core]")]

# Switches of a convention of scoring.
Preset = Annotated[
    Literal["official", "zerospeech", "slamkit"],
    typer.Option(help="Preset of the convention; see `eval run --help`."),
]
Nll = Annotated[
    Literal["mean", "sum"] | None,
    typer.Option(help="NLL of a member: mean over the tokens scored, or their sum."),
]
Bos = Annotated[
    bool | None,
    typer.Option(
        "--bos/--no-bos", help="Put a token before the first one; without it the first one is not scored."
    ),
]
Terminal = Annotated[bool | None, typer.Option("--terminal/--no-terminal", help="Score the closing token.")]
Ties = Annotated[
    Literal["half", "lost", "by-task"] | None,
    typer.Option(help="Value of equal scores; by-task: half, in StoryCloze lost."),
]
Given = Annotated[
    Literal["nothing", "prompt"] | None,
    typer.Option(help="prompt: score the ending alone, given its prompt."),
]
