"""Do what a study asks for and is not done yet: corpus, units, ladder, laws, report.

Everything is published whole or not at all, so the folder can be left at any instant and picked up again. Layout:

    study.json  stages.json          the spec and facts; seconds per stage
    corpus/                          manifests of train, test, benchmarks (sealed)
    units/code_book.safetensors      k-means centroids; .quality.json tells how good they are
    units/{train,test,benchmarks}/   shards
    series/<series>/                 shards of the series that are made from these (`series.py`)
    runs/<run>/                      record.json, scores.parquet, model.safetensors
    runs.csv  curves.csv  law.json   what the laws are fitted to, and the laws
    samples/  samples.json           utterances to listen to
    report.html

A study of given shards has no corpus/, units/ and samples/; `verified.json` keeps in mind that its shards are whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechscale.errors import UserError
from speechscale.jobs.encode import encode_all, learn_code_book, summarise
from speechscale.jobs.samples import write_samples
from speechscale.jobs.train_run import (
    RECORD,
    TrainingTask,
    fraction_done,
    is_done,
    record_failure,
    train_and_score_run,
)
from speechscale.laws import fit_table
from speechscale.records.code import code_identity
from speechscale.records.law import read_law, write_law
from speechscale.records.manifest import Utterance, read_manifest
from speechscale.records.revisions import comparable, require_revisions, revisions_of
from speechscale.records.runs import (
    RunRecord,
    read_curves,
    read_record,
    read_table,
    write_curves,
    write_table,
)
from speechscale.records.seal import (
    differing_fields,
    exclusive_lock,
    is_up_to_date,
    remove_leftovers,
    sha256_file,
    write_json,
)
from speechscale.records.shards import open_shards
from speechscale.report import write_report
from speechscale.speech.storyworld.corpus import (
    BENCHMARKS,
    CORPUS_SCHEMA,
    TEST,
    TRAIN,
    WorldSpec,
    check_voices,
    write_corpus,
)
from speechscale.speech.synthesis.alignments import phone_timings
from speechscale.speech.waveforms import load_waveforms
from speechscale.study.branching import prune_trunks, waves
from speechscale.study.ladder import flops_trained, ladder_runs
from speechscale.study.series import series_shards
from speechscale.study.shards import ShardFolders, check_given, given_folders, training_tasks, verify_shards
from speechscale.study.spec import StudySpec
from speechscale.units.encode import plan_shards
from speechscale.units.kmeans import load_code_book
from speechscale.units.learn import CodeBookTask
from speechscale.workers.failures import Failure
from speechscale.workers.pool import Backend, Workload, try_tasks
from speechscale.workers.progress import StageTimer, spinner

STUDY_SCHEMA = "speechscale.study/1"
PARTS = {"train": TRAIN, "test": TEST, "benchmarks": BENCHMARKS}
Say = Callable[[str], None]


@dataclass(frozen=True)
class StudyFolder:
    """Where everything lies."""

    root: Path

    @property
    def corpus(self) -> Path:
        return self.root / "corpus"

    @property
    def code_book(self) -> Path:
        return self.root / "units" / "code_book.safetensors"

    def units(self, part: str) -> Path:
        return self.root / "units" / part

    @property
    def law(self) -> Path:
        return self.root / "law.json"


def run_study(spec: StudySpec, root: Path, *, backend: Backend, say: Say = lambda _: None) -> Path:
    """Bring a study folder to its end; returns the report's path.

    Raises:
        UserError: the folder belongs to another spec (the fields are named) or is in use, given shards are not what the
            spec says, or a run failed; in the last case everything else is done first.
    """
    folder = StudyFolder(root.absolute())  # workers may stand elsewhere
    ladder_runs(spec)
    if spec.corpus:
        check_given(spec, spec.corpus)
    elif spec.world and not folder.corpus.exists():
        check_voices(spec.world)
    claim(spec, folder)
    with exclusive_lock(folder.root):
        remove_leftovers(folder.root)
        clock = StageTimer(_stages(folder))
        try:
            records = _stages_to_laws(spec, folder, clock, backend, say)
            with clock.stage("report"), spinner("report"):
                if spec.world:
                    write_samples(folder.root, folder.code_book, _listen_to(folder), load_waveforms)
                write_study(spec, folder, clock.seconds)
                report = write_report(folder.root)
        finally:
            write_json(folder.root / "stages.json", clock.seconds)
    failed = [f"{record.run} ({record.note})" for record in records if record.status == "failed"]
    if failed:
        raise UserError(
            f"{report} is written, but {len(failed)} runs failed: {'; '.join(failed)}. Run again to retry."
        )
    return report


def _stages_to_laws(
    spec: StudySpec, folder: StudyFolder, clock: StageTimer, backend: Backend, say: Say
) -> list[RunRecord]:
    if spec.world:
        with clock.stage("corpus"), spinner("corpus"):
            make_corpus_folder(spec.world, folder)
        with clock.stage("k-means"):
            learn_units(spec, folder)
        with clock.stage("speech to units"):
            encode_parts(spec, folder, backend, say)
    with clock.stage("series"):
        shards = series_shards(spec, shard_folders(spec, folder), folder.root / "series", say)
    with clock.stage("ladder: train and score"):
        records = run_ladder(spec, folder, shards, backend, say)
    with clock.stage("laws"), spinner("laws"):
        fit_laws(spec, folder, records)
    return records


def claim(spec: StudySpec, folder: StudyFolder) -> None:
    """Make the folder this study's, or make sure that it is.

    Raises:
        UserError: it was made by another spec; the sentence names the fields.
    """
    path = folder.root / "study.json"
    if not path.exists():
        write_study(spec, folder, {})
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); choose another output folder.") from error
    wanted = {"schema": STUDY_SCHEMA, "spec": spec.model_dump(mode="json")}
    differing = differing_fields({key: found.get(key) for key in wanted}, wanted)
    if differing:
        raise UserError(
            f"{folder.root}: was made by another spec; these differ: {'; '.join(differing)}. "
            "Choose another folder with --out, or remove this one."
        )


def write_study(spec: StudySpec, folder: StudyFolder, seconds: dict[str, float]) -> None:
    write_json(
        folder.root / "study.json",
        {
            "schema": STUDY_SCHEMA,
            "code": code_identity().model_dump(),
            "name": spec.name,
            "title": spec.title,
            "question": spec.question,
            "spec": spec.model_dump(mode="json"),
            "facts": study_facts(spec, folder) if seconds else {},
            "stages": [{"name": name, "seconds": spent} for name, spent in seconds.items()],
        },
    )


def study_facts(spec: StudySpec, folder: StudyFolder) -> dict[str, Any]:
    """What the report says of corpus and units; None where given shards do not tell."""
    shards = [shard for part in shard_folders(spec, folder).train for shard in open_shards(part)]
    train = summarise(shards)
    facts = folder.corpus / "facts.json"
    return {
        **(json.loads(facts.read_text(encoding="utf-8")) if facts.exists() else {}),
        "audio_hours": train.seconds / 3600 or None,
        "units": train.units,
        "units_per_second": train.units / train.seconds if train.seconds else None,
        "vocabulary": shards[0].preprocessing["vocab_size"],
        "skipped": train.skipped,
    }


def make_corpus_folder(world: WorldSpec, folder: StudyFolder) -> None:
    if not is_up_to_date(
        folder.corpus,
        schema=CORPUS_SCHEMA,
        stage="story corpus",
        spec=world.model_dump(mode="json"),
        parents={},
    ):
        write_corpus(world, folder.corpus)


def learn_units(spec: StudySpec, folder: StudyFolder) -> None:
    """k-means on a seeded sample of the training utterances.

    Raises:
        UserError: there is a code book that another revision of k-means made.
    """
    if folder.code_book.exists():
        found = load_code_book(folder.code_book).revisions
        if found:  # code books of other tools have none
            require_revisions(folder.code_book, found, revisions_of("k-means"))
    else:
        encoder = spec.units.encoder()
        train = folder.corpus / TRAIN
        learn_code_book(
            CodeBookTask(
                train,
                folder.corpus,
                encoder,
                spec.units.kmeans,
                folder.code_book,
                load_waveforms,
                timings=phone_timings,
            )
        )


def encode_parts(spec: StudySpec, folder: StudyFolder, backend: Backend, say: Say) -> None:
    """Every manifest to shards; refuses to go on when a part has nothing left."""
    for part, manifest in PARTS.items():
        tasks = plan_shards(
            folder.corpus / manifest,
            folder.corpus,
            folder.code_book,
            folder.units(part),
            load_waveforms,
            seconds=60 * spec.units.minutes_per_shard,
        )
        encoded = encode_all(tasks, backend, label=f"{part}: speech to units")
        say(f"{part:>10}: {encoded}")


def shard_folders(spec: StudySpec, folder: StudyFolder) -> ShardFolders:
    """Where the shards of the study lie: in its folder, or where its file says."""
    if spec.corpus:
        return given_folders(spec.corpus)
    return ShardFolders((folder.units("train"),), folder.units("test"), folder.units("benchmarks"))


def run_ladder(
    spec: StudySpec, folder: StudyFolder, shards: Mapping[str, ShardFolders], backend: Backend, say: Say
) -> list[RunRecord]:
    """Train and score every run that has no record yet; a failed or diverged run stays on record."""
    tasks = training_tasks(spec, shards, folder.root / "runs")
    missing = [task for task in tasks if not is_done(task)]
    if missing:  # once for all of them: a damaged shard would cost the whole ladder
        noted = folder.root / "verified.json" if spec.corpus else None
        every = {shard.folder: shard for of_series in shards.values() for shard in of_series.shards()}
        verify_shards(list(every.values()), backend, noted)
    for record in train_all(missing, spec, backend):
        loss = f"loss {record.loss:.4f}" if record.loss is not None else record.note
        say(f"{record.run:>18}  {record.status:<8}  {loss}  {record.seconds:6.1f} s")
    if not spec.ladder.keep_trunks:
        prune_trunks(tasks)
    records = [read_record(task.folder / RECORD) for task in sorted(tasks, key=lambda task: task.spec.run)]
    write_table(records, folder.root / "runs.csv")
    write_curves(records, folder.root / "curves.csv")
    return records


def train_all(tasks: Sequence[TrainingTask], spec: StudySpec, backend: Backend) -> Iterator[RunRecord]:
    """Train and score, trunks before their branches; yields records as runs end.

    A run that fails, though its worker was lost for it, is on record as failed; the others go on.
    """

    def cost(task: TrainingTask) -> float:
        return flops_trained(spec, task.spec)

    for wave in waves(tasks):
        for processes in sorted({task.spec.processes for task in wave}, reverse=True):
            outcomes = try_tasks(
                train_and_score_run,
                [task for task in wave if task.spec.processes == processes],
                backend,
                Workload(
                    label="ladder" if processes == 1 else f"ladder, {processes} processes per run",
                    gpu=any(task.spec.device != "cpu" for task in wave),
                    processes=processes,
                    weight=cost,
                    fraction=fraction_done,
                ),
            )
            for task, outcome in outcomes:
                yield record_failure(task, str(outcome)) if isinstance(outcome, Failure) else outcome


def fit_laws(spec: StudySpec, folder: StudyFolder, records: Sequence[RunRecord]) -> None:
    """The laws of the runs table; a law file that was fitted to the same tables the same way is kept."""
    if not any(record.status == "done" for record in records):
        raise UserError(
            f"{folder.root}: no run finished, so there is nothing to fit; see runs/*/record.json."
        )
    runs, curves = folder.root / "runs.csv", folder.root / "curves.csv"
    provenance = {
        "revisions": revisions_of("fit"),
        "runs": sha256_file(runs),
        "curves": sha256_file(curves),
        **spec.laws.model_dump(),
    }
    if folder.law.exists() and comparable(read_law(folder.law).get("provenance") or {}) == provenance:
        return
    law = fit_table(
        read_table(runs), curves=read_curves(curves), bootstrap=spec.laws.bootstrap, seed=spec.laws.seed
    )
    write_law({**law, "provenance": {**provenance, "code": code_identity().model_dump()}}, folder.law)


def _listen_to(folder: StudyFolder) -> list[Utterance]:
    """A training story, a held-out prose utterance, and a benchmark story in a voice never heard in training."""
    story = next((u for u in read_manifest(folder.corpus / TRAIN) if u.dataset == "stories"), None)
    prose = next(iter(read_manifest(folder.corpus / TEST)))
    new_voice = next(
        u
        for u in read_manifest(folder.corpus / BENCHMARKS)
        if u.extra["condition"] == "unseen" and u.extra["task"] == "tstorycloze"
    )
    return [utterance for utterance in (story, prose, new_voice) if utterance]


def _stages(folder: StudyFolder) -> dict[str, float]:
    path = folder.root / "stages.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
