import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pytest
import typer
from typer.testing import CliRunner

from speechscale.cli.report import report
from speechscale.records.code import CodeIdentity, code_identity
from speechscale.records.law import read_law, write_law
from speechscale.records.runs_table import write_table
from speechscale.report import write_report


class Page(HTMLParser):
    """What a browser would load from a page, what it would run, and what a reader would see."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.scripts: list[tuple[str | None, str]] = []
        self.policy = ""
        self.text = ""
        self._open: list[tuple[str, str | None]] = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.links += [named[name] for name in ("src", "href", "data", "action") if named.get(name)]
        if named.get("http-equiv") == "Content-Security-Policy":
            self.policy = named["content"]
        if tag in ("script", "style"):
            self._open.append((tag, named.get("type")))

    def handle_endtag(self, tag):
        if self._open and tag == self._open[-1][0]:
            self._open.pop()

    def handle_data(self, data):
        if self._open and self._open[-1][0] == "script":
            self.scripts.append((self._open[-1][1], data))
        elif not self._open:
            self.text += data


@pytest.fixture(scope="module")
def html(finished_study) -> str:
    return write_report(finished_study).read_text(encoding="utf-8")


def test_page_is_written_to_the_study_folder_and_is_small(html, finished_study):
    assert (finished_study / "report.html").read_text(encoding="utf-8") == html
    assert len(html.encode()) < 3_000_000


def test_page_makes_no_network_request(html):
    page = Page(html)
    assert all(link.startswith(("#", "data:audio/wav;base64,")) for link in page.links)
    assert "default-src 'none'" in page.policy
    assert "connect-src" not in page.policy  # falls back to 'none'
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style


def test_content_security_policy_allows_only_the_scripts_of_the_package(html):
    page = Page(html)
    run = [text for kind, text in page.scripts if kind is None]
    hashes = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in run}
    assert set(re.findall(r"'sha256-([^']+)'", page.policy)) == hashes
    assert len(run) == 2
    assert "unsafe-eval" not in page.policy


def test_figures_contain_their_data_and_no_url(html):
    (data,) = (text for kind, text in Page(html).scripts if kind == "application/json")
    figures = json.loads(data)
    assert len(figures["panels"]) == 12
    for panel in figures["panels"]:
        assert set(panel["datasets"]) <= set(figures["datasets"])
        assert '"url"' not in json.dumps(panel)
        assert f'id="{panel["id"]}"' in html


def test_hostile_names_and_notes_are_escaped(make_study, records):
    hostile = "</script><script>alert(1)</script>"
    renamed = records[0].model_copy(update={"run": hostile})
    lost = records[-1].model_copy(update={"note": "<img src=x onerror=alert(2)>"})
    folder = make_study([*records[1:-1], lost])  # a run of this name could not have a folder
    write_table([renamed, *records[1:-1], lost], folder / "runs.csv")
    about = json.loads((folder / "study.json").read_text())
    about |= {"title": "<b>bold</b>", "question": '"><script>alert(3)</script>'}
    (folder / "study.json").write_text(json.dumps(about))

    html = write_report(folder).read_text()
    page = Page(html)
    assert len(page.scripts) == 3
    assert not re.search(r"<script>alert|<img src=x|<b>", html)
    assert hostile in page.text
    assert "<img src=x onerror=alert(2)>" in page.text


def test_page_of_a_runs_table_alone_names_the_missing_files(study_folder, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(study_folder / "runs.csv", bare)
    text = Page(write_report(bare).read_text()).text
    for gap in ("has no law.json", "has no curves.csv", "has no samples.json", "how long its stages took"):
        assert gap in text


def test_tables_show_runs_with_intervals_and_failed_runs_with_their_note(html, records):
    text = Page(html).text
    for record in records:
        assert record.run in text
    score = records[0].scores["lexical"]
    assert f"{100 * score.accuracy:.1f} % [{100 * score.low:.1f}, {100 * score.high:.1f}]" in text
    assert "loss was nan at step 17; lower the learning rate." in text


def test_intervals_name_the_resampling_of_the_law(html, study_folder):
    assert "over 100 bootstrap fits with resampled noise, at the same runs" in Page(html).text
    law = read_law(study_folder / "law.json")
    options = law.options.model_copy(update={"resampling": "runs"})
    write_law(law.model_copy(update={"options": options}), study_folder / "law.json")
    assert "over 100 bootstrap fits to resampled runs" in Page(write_report(study_folder).read_text()).text


def test_page_names_the_code_that_wrote_it(html):
    assert f"This page was written by {code_identity()}." in Page(html).text


def test_page_compares_the_code_of_study_and_law_with_its_own(study_folder):
    def sentences(part: str, code: CodeIdentity | None) -> str:
        if part == "law":
            law = read_law(study_folder / "law.json")
            write_law(law.model_copy(update={"code": code}), study_folder / "law.json")
        else:
            about = json.loads((study_folder / "study.json").read_text())
            (study_folder / "study.json").write_text(json.dumps(about | {"code": code and code.model_dump()}))
        return Page(write_report(study_folder).read_text()).text

    other = code_identity().model_copy(
        update={"source": "0" * 64, "commit": "abcdef0123456789", "clean": True}
    )
    for part in ("law", "study"):
        assert f"The {part} file was written by the same code." in sentences(part, code_identity())
        assert f"The {part} file was written by other code: {other}." in sentences(part, other)
        assert f"The {part} file does not say which code wrote it." in sentences(part, None)


def test_published_laws_are_columns_of_the_law_table(html):
    text = Page(html).text
    assert "speech, Cuervo and Marxer 2024" in text
    assert "text, Muennighoff et al. 2023" in text
    assert "1,488" in text


def test_samples_have_audio_players_and_units(html, finished_study):
    sound = base64.b64encode((finished_study / "samples" / "0.wav").read_bytes()).decode()
    assert f"data:audio/wav;base64,{sound}" in html
    assert html.count("<rect ") == 28 + 47


def test_report_command_writes_page_and_figures(finished_study, tmp_path):
    shutil.copy(finished_study / "runs.csv", tmp_path)
    app = typer.Typer()
    app.command()(report)
    page, figures = tmp_path / "out" / "page.html", tmp_path / "figures"
    result = CliRunner().invoke(app, [str(tmp_path), "-o", str(page), "--figures", str(figures)])
    assert result.exit_code == 0, result.output
    assert page.exists()
    assert {file.suffix for file in figures.glob("loss-against-compute.*")} == {".svg", ".png"}


def test_report_does_not_import_torch():
    code = "import sys, speechscale.report; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs a browser")
def test_browser_draws_every_panel(finished_study, tmp_path):
    quiet = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--virtual-time-budget=8000",
    )
    command = [
        "chromium",
        *quiet,
        "--dump-dom",
        write_report(finished_study, tmp_path / "page.html").as_uri(),
    ]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert dom.count("<svg") - dom.count('class="units"') >= 12
    assert dom.count('class="marks"') == 12
    assert "could not be drawn" not in dom.split("<script", 1)[0]
