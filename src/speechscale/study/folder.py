"""The folder of a study: where its files are, and which study it belongs to.

Everything is published atomically, so a study can be interrupted at any time and continued. Layout:

    study.json  stages.json          spec and facts; seconds per stage
    corpus/                          manifests of training, test and benchmarks (sealed)
    units/code_book.safetensors      k-means centroids; .quality.json measures their quality
    units/{train,test,benchmarks}/   shards
    series/<series>/                 shards of the series that are derived from these (see `series.py`)
    runs/<run>/                      record.json, scores.parquet, scores.json, model.safetensors
    runs.csv  curves.csv  law.json   what the laws are fitted to, and the laws
    samples/  samples.json           utterances to listen to
    report.html

A study of existing shards has no corpus/, units/ and samples/; its verified.json records which shards were verified.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from speechscale.errors import UserError
from speechscale.records.code import code_identity
from speechscale.records.seal import differing_fields, write_json
from speechscale.records.study import (
    SCHEMA,
    STUDY_FILE,
    StageTime,
    StudyFacts,
    StudyFile,
    read_study_file,
    write_study_file,
)
from speechscale.study.spec import StudySpec


@dataclass(frozen=True)
class StudyFolder:
    """The paths of a study, below an absolute root."""

    root: Path

    @property
    def corpus(self) -> Path:
        """Manifests of the story world."""
        return self.root / "corpus"

    @property
    def codebook(self) -> Path:
        """The k-means centroids of the units."""
        return self.root / "units" / "code_book.safetensors"

    def units(self, part: str) -> Path:
        """Shards of one part: train, test or benchmarks."""
        return self.root / "units" / part

    @property
    def series(self) -> Path:
        """Shards of derived series."""
        return self.root / "series"

    @property
    def runs(self) -> Path:
        """One folder per run."""
        return self.root / "runs"

    @property
    def runs_table(self) -> Path:
        """The runs table."""
        return self.root / "runs.csv"

    @property
    def curves_table(self) -> Path:
        """Test losses during training."""
        return self.root / "curves.csv"

    @property
    def law(self) -> Path:
        """The law file."""
        return self.root / "law.json"

    @property
    def verified(self) -> Path:
        """The identity of the input shards that were verified."""
        return self.root / "verified.json"

    def stage_seconds(self) -> dict[str, float]:
        """Seconds per stage so far, in order; empty before the first stage."""
        path = self.root / "stages.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def write_stage_seconds(self, seconds: dict[str, float]) -> None:
        """Keep the seconds per stage for the next call."""
        write_json(self.root / "stages.json", seconds)

    def claim(self, spec: StudySpec) -> None:
        """Write study.json into a new folder, or check that the folder belongs to this spec.

        Raises:
            UserError: the folder belongs to another spec; the sentence names the differing fields.
        """
        if not (self.root / STUDY_FILE).exists():
            self.write_study(spec, StudyFacts(), {})
            return
        found = read_study_file(self.root)
        expected = {"schema": SCHEMA, "spec": spec.model_dump(mode="json")}
        differing = differing_fields({"schema": found.schema_, "spec": found.spec}, expected)
        if differing:
            raise UserError(
                f"{self.root}: was made by another spec; these differ: {'; '.join(differing)}. "
                "Choose another folder with --out, or remove this one."
            )

    def write_study(self, spec: StudySpec, facts: StudyFacts, seconds: dict[str, float]) -> None:
        """Write study.json."""
        study = StudyFile(
            code=code_identity(),
            name=spec.name,
            title=spec.title,
            question=spec.question,
            spec=spec.model_dump(mode="json"),
            facts=facts,
            stages=[StageTime(name=name, seconds=spent) for name, spent in seconds.items()],
        )
        write_study_file(study, self.root)


def read_spec(folder: Path) -> StudySpec:
    """The spec of the study in a folder.

    Raises:
        UserError: there is no study, or its spec has other fields than this version knows.
    """
    try:
        return StudySpec.model_validate(read_study_file(folder).spec)
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{folder / STUDY_FILE}: the spec is not one of this version ({error}); run the study again in "
            "another folder."
        ) from error
