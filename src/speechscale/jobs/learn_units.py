"""Making of a codebook: learned by k-means in a worker, or imported from a published k-means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from speechscale.compute import ComputeOptions, Device
from speechscale.speech.synthesis.alignments import phone_alignments
from speechscale.speech.waveforms import load_waveforms
from speechscale.units.encoders import encoder_identity
from speechscale.units.hubert import ENCODER_PRESETS
from speechscale.units.kmeans import KMeansSpec
from speechscale.units.learn import (
    CodebookTask,
    LearnedCodebook,
    evaluate_and_save_codebook,
    fit_codebook,
)
from speechscale.units.quality import CodebookQuality
from speechscale.units.sklearn_kmeans import read_sklearn_kmeans
from speechscale.units.source import SpeechSource
from speechscale.workers.local import LocalBackend
from speechscale.workers.pool import run_tasks


@dataclass(frozen=True, kw_only=True)
class CodebookJob:
    """A codebook to be made.

    Attributes:
        manifest: the training speech.
        out: file of the codebook.
        kmeans: size of the sample and settings of k-means.
        root: the folder that audio paths are relative to; by default that of the manifest.
        split: the only split to learn from; None uses all.
        encoder: `mel`, the name of a preset, or a HuBERT model (a folder or a hub id).
        encoder_settings: fields of the encoder's spec that differ from the preset or the default.
        published: a joblib file of a scikit-learn k-means; None learns the codebook.
        sha256: hash of the published file; by default that of the preset.
        device: where a neural encoder and k-means compute.
    """

    manifest: Path
    out: Path
    kmeans: KMeansSpec
    root: Path | None = None
    split: str | None = None
    encoder: str = "mel"
    encoder_settings: Mapping[str, Any] = field(default_factory=dict)
    published: Path | None = None
    sha256: str | None = None
    device: Device = "auto"

    def task(self) -> CodebookTask:
        """The task of a worker.

        Raises:
            UserError: settings that the encoder does not have or that are missing, or a model that is not pinned.
        """
        return CodebookTask(
            SpeechSource(self.manifest, self.root or self.manifest.parent, load_waveforms, self.split),
            encoder_identity(self.encoder, self.encoder_settings),
            self.kmeans,
            self.out,
            ComputeOptions(device=self.device),
            phone_alignments,
        )


@dataclass(frozen=True)
class ImportedCodebook:
    """A published codebook, and its quality on the sample."""

    clusters: int
    published: Path
    quality: CodebookQuality

    def __str__(self) -> str:
        return f"{self.clusters} units imported from {self.published};\n{self.quality}"


def make_codebook(job: CodebookJob) -> LearnedCodebook | ImportedCodebook:
    """Learn or import a codebook, and write it with its quality.

    Raises:
        UserError: an encoder that cannot be used, no readable utterance, or a published file that is not as expected.
    """
    task = job.task()
    if job.published is None:
        return learn_codebook(task)
    sha256 = job.sha256
    if sha256 is None and job.encoder in ENCODER_PRESETS:
        sha256 = ENCODER_PRESETS[job.encoder].kmeans_sha256
    return import_codebook(task, job.published, sha256)


def learn_codebook(task: CodebookTask) -> LearnedCodebook:
    """Learn a codebook in a worker process.

    Raises:
        UserError: no utterance of the sample could be read, or they have too few frames.
    """
    ((_, learned),) = run_tasks(fit_codebook, [task], label="k-means", backend=LocalBackend(1))
    return learned


def import_codebook(task: CodebookTask, published: Path, sha256: str | None) -> ImportedCodebook:
    """Import a published k-means for the encoder of a task, and evaluate it on the sample.

    Raises:
        UserError: the file has another hash, is not a k-means, or belongs to another encoder.
    """
    codebook = read_sklearn_kmeans(published, task.encoder, sha256)
    quality = evaluate_and_save_codebook(codebook, task)
    return ImportedCodebook(len(codebook.centroids), published, quality)
