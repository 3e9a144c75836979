"""`speechscale generate`: a trained run in, what it says out, as units and as sound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def generate(
    run: Annotated[Path, typer.Argument(help="Folder of a run: model.safetensors.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; must not exist yet.")],
    count: Annotated[int, typer.Option(min=1, help="Sequences.")] = 4,
    most: Annotated[
        int | None, typer.Option(min=1, help="Units of each at most.  [default: what the context leaves]")
    ] = None,
    prompt: Annotated[
        Path | None, typer.Option(help="Folder of shards to take a prompt from.  [default: none]")
    ] = None,
    sample: Annotated[
        str | None, typer.Option(help="Id of the prompt's utterance.  [default: the first]")
    ] = None,
    prompt_units: Annotated[int, typer.Option(min=1, help="Units of it that are read.")] = 50,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest unit.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(min=1, help="Draw from the K likeliest units.")] = None,
    top_p: Annotated[
        float, typer.Option(help="Draw from the fewest units that hold this probability.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    code_book: Annotated[
        Path | None, typer.Option(help="Code book of log-mel units: sound from its centroids.")
    ] = None,
    pace: Annotated[
        Path | None,
        typer.Option(
            help="With --code-book: shards whose mean durations are used; else 25/19 frames a unit."
        ),
    ] = None,
    vocoder: Annotated[
        Path | None, typer.Option(help="CodeHiFiGAN checkpoint (.pt) of HuBERT units: sound by it.")
    ] = None,
    vocoder_config: Annotated[Path | None, typer.Option(help="Its config (JSON).")] = None,
    vocoder_sha256: Annotated[
        str | None, typer.Option(help="Its SHA-256, if it is not the published LJ voice for mHuBERT-25Hz.")
    ] = None,
) -> None:
    """Let a model speak: OUT/units.jsonl, and OUT/*.wav where a code book or a vocoder is given.

    Example:
        speechscale generate work/nano/runs/804k-2.56M --code-book work/nano/units/code_book.safetensors
        --pace work/nano/units/train --prompt work/nano/units/test -o said
    """
    from speechscale.errors import UserError
    from speechscale.jobs.generate import MelVoice, Prompt, VocoderVoice, write_continuations
    from speechscale.model.generate import Sampling
    from speechscale.units.vocoder import PUBLISHED_SHA256
    from speechscale.workers.progress import spinner

    if code_book and vocoder:
        raise UserError("give --code-book (log-mel units) or --vocoder (HuBERT units), not both.")
    if vocoder and not vocoder_config:
        raise UserError("--vocoder needs --vocoder-config, the JSON file that was published beside it.")
    voice: MelVoice | VocoderVoice | None = MelVoice(code_book, pace) if code_book else None
    if vocoder and vocoder_config:
        voice = VocoderVoice(vocoder, vocoder_config, vocoder_sha256 or PUBLISHED_SHA256)
    with spinner("speaking"):
        ended, heard = write_continuations(
            run,
            out,
            count=count,
            most=most,
            sampling=Sampling(temperature, top_k, top_p, seed),
            prompt=Prompt(prompt, prompt_units, sample) if prompt else None,
            voice=voice,
        )
    typer.echo(f"{out}: {count} sequences, {ended} ended by EOS, {heard} with sound.")
