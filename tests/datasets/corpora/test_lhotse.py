"""Lhotse's recordings and cuts, as lhotse writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpus_files import audio, list_corpus, noise
from lhotse import AudioSource, CutSet, Recording, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.supervision import AlignmentItem

from speechscale.datasets.corpora import detect_corpus_layout
from speechscale.datasets.corpora.splits import SplitOptions
from speechscale.errors import UserError
from speechscale.speech.waveforms import load_waveforms

NO_DRAW = SplitOptions(test_share=0)


def make_recording(path: Path, name: str, seconds: float = 3.0) -> Recording:
    return Recording.from_file(audio(path, seconds), recording_id=name)


def test_recordings_and_cuts(tmp_path: Path, out: Path) -> None:
    one = make_recording(tmp_path / "audio" / "one.flac", "one")
    stereo = noise(2.0, 8000, 1, 2)
    soundfile.write(tmp_path / "audio" / "call.wav", stereo, 8000, subtype="FLOAT")
    call = Recording.from_file(tmp_path / "audio" / "call.wav", recording_id="call")
    recordings = RecordingSet.from_recordings([one, call])
    recordings.to_file(tmp_path / "c_recordings_train.jsonl.gz")
    result = list_corpus(tmp_path / "c_recordings_train.jsonl.gz", out, NO_DRAW, dataset="c")
    assert [(u.id, u.duration) for u in result.utterances] == [("c/one", 3.0), ("c/call", 2.0)]

    supervisions = [
        SupervisionSegment(
            "s1", "one", 0.5, 1.0, text="first", speaker="A", custom={"book": "B"}
        ).with_alignment("word", [AlignmentItem("first", 0.6, 0.25)]),
        SupervisionSegment("s2", "one", 1.75, 1.0, text="second", speaker="A"),
        SupervisionSegment("s3", "call", 0.25, 1.0, channel=1, text="hello", speaker="C"),
    ]
    whole = CutSet.from_manifests(
        recordings=recordings, supervisions=SupervisionSet.from_segments(supervisions)
    ).to_eager()
    trimmed = whole.trim_to_supervisions(keep_overlapping=False).to_eager()
    trimmed.to_file(tmp_path / "c_cuts_test-clean.jsonl.gz")
    assert detect_corpus_layout(tmp_path / "c_cuts_test-clean.jsonl.gz") == "lhotse"
    result = list_corpus(tmp_path / "c_cuts_test-clean.jsonl.gz", out, dataset="c")
    assert not result.skips and result.ids_of_split("test") == set(result.ids) and len(result.ids) == 3
    for utterance, cut in zip(result.utterances, trimmed, strict=True):
        assert utterance.id == f"c/{cut.id}"
        assert (utterance.transcript, utterance.speaker) == (
            cut.supervisions[0].text,
            cut.supervisions[0].speaker,
        )
        (waveform,) = load_waveforms([utterance], result.root)
        theirs = cut.load_audio()[0]
        if cut.sampling_rate == 16_000:
            assert np.array_equal(waveform, theirs)
        else:
            assert np.array_equal(theirs, stereo[2000:10_000, 1])  # one side of the call alone
            assert len(waveform) == 2 * len(theirs) and utterance.channel == 1
    assert result.utterances[0].extra == {
        "book": "B", "aligned_text": [{"word": "first", "start_time": 0.1, "end_time": 0.35}]
    }  # fmt: skip

    whole.subset(first=1).to_jsonl(tmp_path / "cuts.jsonl")
    (utterance,) = list_corpus(tmp_path / "cuts.jsonl", out, NO_DRAW, dataset="c").utterances
    assert (utterance.transcript, utterance.speaker, utterance.duration) == ("first second", "A", 3.0)


def test_cuts_that_are_not_one_segment_of_a_file(tmp_path: Path, out: Path) -> None:
    one = make_recording(tmp_path / "one.flac", "one")
    cut = one.to_cut()
    channels = [
        AudioSource("file", [0], str(audio(tmp_path / "l.wav"))), AudioSource("file", [1], str(tmp_path / "l.wav"))
    ]  # fmt: skip
    split = Recording("split", channels, 16_000, 8000, 0.5)
    piped = Recording("piped", [AudioSource("command", [0], f"touch {tmp_path}/ran; cat")], 16_000, 8000, 0.5)
    cuts = [
        cut,
        cut.perturb_speed(1.1).with_id("fast"),
        cut.pad(duration=5).with_id("padded"),
        cut.resample(8000).with_id("resampled"),
        split.to_cut(),
        piped.to_cut(),
    ]
    CutSet.from_cuts(cuts).to_file(tmp_path / "cuts.jsonl.gz")
    result = list_corpus(tmp_path / "cuts.jsonl.gz", out, NO_DRAW, dataset="c")
    assert result.ids == ["c/one", "c/resampled"]
    assert result.reasons == {
        "c/fast": "not plain audio", "c/padded": "not plain audio", "c/split": "no channel", "c/piped": "no file"
    }  # fmt: skip
    assert not (tmp_path / "ran").exists()


def test_supervisions_alone_are_refused_with_advice(tmp_path: Path, out: Path) -> None:
    supervisions = SupervisionSet.from_segments([SupervisionSegment("s", "one", 0.0, 1.0)])
    supervisions.to_file(tmp_path / "supervisions.jsonl.gz")
    with pytest.raises(UserError, match="lhotse cut simple"):
        list_corpus(tmp_path / "supervisions.jsonl.gz", out, layout="lhotse")
