"""`speechscale generate`: units and sound from a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from speechscale.cli.options import NewFolder, RunFolder


def generate(
    run: RunFolder,
    out: NewFolder,
    count: Annotated[int, typer.Option(min=1, help="Number of sequences.")] = 4,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum units of each.  [default: the context without the prompt]"),
    ] = None,
    prompt: Annotated[
        Path | None, typer.Option(help="Folder of shards to take a prompt from.  [default: none]")
    ] = None,
    sample: Annotated[
        str | None, typer.Option(help="Id of the prompt's utterance.  [default: the first]")
    ] = None,
    prompt_units: Annotated[int, typer.Option(min=1, help="Length of the prompt in units.")] = 50,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest unit.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(min=1, help="Draw from the K likeliest units.")] = None,
    top_p: Annotated[
        float, typer.Option(help="Draw from the fewest units whose probabilities sum to this.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    code_book: Annotated[
        Path | None, typer.Option(help="Codebook of log-mel units: sound from its centroids.")
    ] = None,
    duration_shards: Annotated[
        Path | None,
        typer.Option(
            help="With --code-book: shards whose mean durations are used.  [default: 25/19 frames per unit]"
        ),
    ] = None,
    vocoder: Annotated[
        Path | None, typer.Option(help="CodeHiFiGAN checkpoint (.pt) for HuBERT units.")
    ] = None,
    vocoder_config: Annotated[Path | None, typer.Option(help="Its config (JSON).")] = None,
    vocoder_sha256: Annotated[
        str | None, typer.Option(help="Its SHA-256, if it is not the published LJ voice for mHuBERT-25Hz.")
    ] = None,
) -> None:
    """Sample from a model: OUT/units.jsonl, and OUT/*.wav with a codebook or a vocoder.

    Example:
        speechscale generate work/nano/runs/804k-2.56M --code-book work/nano/units/code_book.safetensors
        --duration-shards work/nano/units/train --prompt work/nano/units/test -o generated
    """
    from speechscale.jobs.generate import Prompt, Sampling, VocoderOptions, write_continuations

    checksum = {"sha256": vocoder_sha256} if vocoder_sha256 else {}
    generation = write_continuations(
        run,
        out,
        count=count,
        max_new_tokens=max_new_tokens,
        sampling=Sampling(temperature, top_k, top_p, seed),
        prompt=Prompt(prompt, prompt_units, sample) if prompt else None,
        vocoder=VocoderOptions(code_book, duration_shards, vocoder, vocoder_config, **checksum),
    )
    typer.echo(f"{out}: {count} sequences, {generation.ended} ended by EOS, {generation.audible} with sound.")
