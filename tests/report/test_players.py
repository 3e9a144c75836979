import pytest

from speechscale.errors import UserError
from speechscale.records.study import AudioSample
from speechscale.report.players import MAX_AUDIO_BYTES, players, unit_strip


@pytest.mark.parametrize("name", ["../outside.wav", "/etc/hostname", "samples/none.wav", "samples", ""])
def test_samples_outside_the_study_are_refused(study_folder, name):
    (study_folder.parent / "outside.wav").write_bytes((study_folder / "samples" / "0.wav").read_bytes())
    with pytest.raises(UserError, match="is not a file inside the study folder"):
        players([AudioSample(id="x", text="x", seconds=1.0, file=name)], study_folder)


def test_a_link_out_of_the_study_is_refused(study_folder):
    (study_folder.parent / "outside.wav").write_bytes((study_folder / "samples" / "0.wav").read_bytes())
    (study_folder / "samples" / "link.wav").symlink_to(study_folder.parent / "outside.wav")
    with pytest.raises(UserError, match="is not a file inside the study folder"):
        players([AudioSample(id="x", text="x", seconds=1.0, file="samples/link.wav")], study_folder)


def test_samples_that_are_not_audio_are_refused(study_folder):
    (study_folder / "samples" / "0.wav").write_text("<script>")
    with pytest.raises(UserError, match="not a WAV file"):
        players([AudioSample(id="x", text="x", seconds=1.0, file="samples/0.wav")], study_folder)


def test_long_audio_is_named_but_not_embedded(study_folder):
    sound = study_folder / "samples" / "0.wav"
    sound.write_bytes(sound.read_bytes() + bytes(MAX_AUDIO_BYTES))
    html = players([AudioSample(id="x", text="x", seconds=1.0, file="samples/0.wav")], study_folder)
    assert "listen to samples/0.wav" in html
    assert "<audio" not in html


def test_transcript_is_escaped_text(study_folder):
    html = players(
        [AudioSample(id="x", text="<b>x</b>", voice="<i>", seconds=1.0, file="samples/0.wav")], study_folder
    )
    assert "&lt;b&gt;x&lt;/b&gt;" in html
    assert "<i>" not in html


def test_the_same_unit_has_the_same_colour():
    strip = unit_strip([3, 7, 3])
    fills = [cell.partition('"')[0] for cell in strip.split('fill="')[1:]]
    assert fills[0] == fills[2] != fills[1]
