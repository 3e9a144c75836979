"""The report: one self-contained HTML page that makes no network requests.

Its content security policy forbids every request and runs exactly two scripts, by their hashes: the bundled
Vega libraries and `embed.js`. Data enter the page as text or JSON, never as script.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from speechscale.records.code import code_identity
from speechscale.records.seal import write_file
from speechscale.records.study import StudyFile
from speechscale.report import formatting, summary, tables
from speechscale.report.figures import Figure, library_version, specification, study_figures
from speechscale.report.folder import StudyResults, read_study_results
from speechscale.report.markup import Markup, element, joined, safe_json
from speechscale.report.players import players
from speechscale.report.theme import PAGE_TEXT_COLOUR, VegaSpec, configuration, series_colours, size_colours

_FACTS: dict[str, tuple[str, Callable[[Any], str]]] = {  # field of StudyFacts -> label and format
    "audio_hours": ("hours of speech", lambda value: formatting.digits(value)),
    "units": ("units", formatting.quantity),
    "units_per_second": ("units per second", lambda value: formatting.digits(value)),
    "vocabulary": ("vocabulary of units", formatting.quantity),
    "word_types": ("word types", formatting.quantity),
    "voices_train": ("training voices", lambda value: ", ".join(map(str, value))),
    "voices_unseen": ("new voices, for tests only", lambda value: ", ".join(map(str, value))),
}

_LISTENING_GUIDE = (
    "The audio, and below it the units that the models read in place of it. Each colour is one unit; "
    "consecutive repetitions of a unit are collapsed."
)

_GLOSSARY = (
    ("N, model size", "Parameters without embeddings and output projection. Colour stands for N everywhere."),
    (
        "D, tokens",
        "Tokens seen in training, repeats counted. Epochs = D / unique tokens; up to 1.001 epochs count as one.",
    ),
    ("Compute", "6·N·D FLOPs, the usual approximation, without attention and output projection."),
    (
        "Loss",
        "Mean negative log-likelihood on held-out speech, in nats per token. Tokens of different tokenizers "
        "carry different amounts of speech: compare those by bits per second of audio.",
    ),
    (
        "Scores",
        "Zero-shot: the share of pairs in which the model assigns the higher likelihood to the better utterance. "
        "Nothing is trained for the tasks. New voices speak the same items.",
    ),
    (
        "Intervals",
        "95 %. Of scores: over items, those that share a contrast together; of law parameters: {resampling}. A score "
        "counts as above chance only when its whole interval is above it.",
    ),
    (
        "Laws",
        "Fitted to the runs of this study. Outside the range of their N and D, the laws are forecasts.",
    ),
)


def write_report(study: Path, out: Path | None = None) -> Path:
    """Write the report of a finished study folder; returns its path.

    Args:
        study: the study folder.
        out: the page to write; `report.html` in the study folder when None.

    Raises:
        UserError: the folder is no finished study, or the page cannot be written.
    """
    study = Path(study)
    target = Path(out) if out else study / "report.html"
    write_file(target, page(read_study_results(study)))
    return target


def page(study: StudyResults) -> str:
    """The whole page as HTML."""
    about = study.about or StudyFile()
    title = about.title or about.name or study.folder.name
    figures = study_figures(study)
    scripts = (_libraries(), Markup(_package_text("embed.js")))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_content_security_policy(scripts)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Markup(_package_text("page.css"))),
    )
    body = element(
        "body",
        _header(study, title),
        element("main", *_sections(study, figures)),
        element("footer", *(element("p", sentence) for sentence in _code_sentences(study))),
        element("script", _panels_json(figures), type="application/json", id="figures-data"),
        *(element("script", script) for script in scripts),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _code_sentences(study: StudyResults) -> list[str]:
    """Which code wrote the page, the study file and the law file, and which of them is not that of the page."""
    page_code = code_identity()
    codes = {
        "The study file": study.about.code if study.about else None,
        "The law file": study.law.code if study.law else None,
    }
    sentences = [f"This page was written by {page_code}. It is self-contained and needs no other file."]
    for file, code in codes.items():
        if code is None:
            sentences.append(f"{file} does not say which code wrote it.")
        elif code.source == page_code.source:
            sentences.append(f"{file} was written by the same code.")
        else:
            sentences.append(f"{file} was written by other code: {code}.")
    return sentences


def _header(study: StudyResults, title: str) -> Markup:
    about = study.about or StudyFile()
    tiles = [
        element("div", element("dt", label), element("dd", formatted(value)))
        for key, (label, formatted) in _FACTS.items()
        if (value := getattr(about.facts, key)) is not None
    ]
    return element(
        "header",
        element("p", f"speechscale report{f' · {about.name}' if about.name else ''}", class_="eyebrow"),
        element("h1", title),
        element("p", about.question, class_="question") if about.question else "",
        element("dl", *tiles, class_="facts") if tiles else "",
    )


def _sections(study: StudyResults, figures: Sequence[Figure]) -> list[Markup]:
    """The sections of the page, preceded by links to each of them."""
    drawn = {figure.name: _figure(figure, study) for figure in figures}
    sections = {
        "What was found": _findings_list(study),
        "Listen": joined(
            element("p", _LISTENING_GUIDE),
            players(study.samples, study.folder),
        ),
        **{figure.title: drawn[figure.name] for figure in figures if figure.name != "time"},
        "The laws": joined(
            tables.law_table(study), element("h3", "Downstream"), tables.downstream_table(study)
        ),
        **({"Series against series": tables.efficiency_table(study)} if len(study.series) > 1 else {}),
        "The runs": tables.runs_table(study),
        "Diverged and failed runs": tables.unfinished_runs(study),
        "How the time was spent": drawn["time"],
        "How to read this": _reading_guide(study),
    }
    links = (element("a", title, href=f"#{_anchor(title)}") for title in sections)
    return [
        element("nav", *links, aria_label="Sections"),
        *(
            element("section", element("h2", title), content, id=_anchor(title))
            for title, content in sections.items()
        ),
    ]


def _findings_list(study: StudyResults) -> Markup:
    return element(
        "ul", *(element("li", sentence) for sentence in summary.findings(study)), class_="findings"
    )


def _figure(figure: Figure, study: StudyResults) -> Markup:
    """A figure's caption, key and empty panels, which `embed.js` fills."""
    panels = (
        element("div", class_="panel", id=_panel_id(figure, index)) for index in range(len(figure.panels))
    )
    return element(
        "figure",
        element("figcaption", figure.caption),
        *(element("p", sentence, class_="gap") for sentence in figure.missing),
        _key(figure, study) if figure.panels else "",
        element("div", *panels, class_="panels"),
    )


def _key(figure: Figure, study: StudyResults) -> Markup | str:
    """The colour legend, in HTML: it wraps on narrow screens, and the legends of Vega-Lite do not."""
    if figure.key is None:
        return ""
    sizes = figure.key == "sizes"
    colours = size_colours(study.done["params"]) if sizes else series_colours(study.series)
    entries = (
        element(
            "span",
            element(
                "svg",
                element("circle", cx=5, cy=5, r=5, fill=colour),
                viewBox="0 0 10 10",
                aria_hidden="true",
            ),
            name,
        )
        for name, colour in colours.items()
    )
    return element("p", element("span", "N:") if sizes else "", *entries, class_="legend")


def _reading_guide(study: StudyResults) -> Markup:
    terms = (
        joined(element("dt", term), element("dd", meaning.format(resampling=_resampling(study))))
        for term, meaning in _GLOSSARY
    )
    spec = study.about.spec if study.about else {}
    if not spec:
        return element("dl", *terms, class_="reading")
    text = json.dumps(spec, indent=2, ensure_ascii=False)
    return joined(
        element("dl", *terms, class_="reading"),
        element(
            "details", element("summary", "The study's specification"), element("pre", text), class_="spec"
        ),
    )


def _resampling(study: StudyResults) -> str:
    """How the intervals of the laws were computed, from the options of the law file."""
    if study.law is None:
        return "there are none, because no law was fitted"
    draws = f"{study.law.options.bootstrap:,} bootstrap fits"
    if study.law.options.resampling == "runs":
        return f"over {draws} to resampled runs"
    return f"over {draws} with resampled noise, at the same runs"


def _panels_json(figures: Sequence[Figure]) -> Markup:
    """Every panel and every table; a table that several panels draw is stored once."""
    datasets: VegaSpec = {}
    panels = []
    for figure in figures:
        for index, panel in enumerate(figure.panels):
            spec = specification(panel)
            own = spec.pop("datasets", {})
            datasets |= own
            panels.append({"id": _panel_id(figure, index), "spec": spec, "datasets": list(own)})
    config = configuration(PAGE_TEXT_COLOUR)
    config["legend"] |= {"disable": True}  # the page has its own key
    return safe_json({"config": config, "datasets": datasets, "panels": panels})


def _panel_id(figure: Figure, index: int) -> str:
    return f"panel-{figure.name}-{index + 1}"


def _anchor(title: str) -> str:
    return title.lower().replace(",", "").replace(" ", "-")


def _content_security_policy(scripts: Sequence[str]) -> str:
    """A content security policy under which nothing is fetched and no other script runs."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; media-src data:; base-uri 'none'; form-action 'none'"
    )


@cache
def _libraries() -> Markup:
    """Vega, Vega-Lite and vega-embed in one script."""
    import vl_convert

    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=library_version())
    return Markup(bundle.replace("</script", "<\\/script"))


def _package_text(name: str) -> str:
    return resources.files("speechscale.report").joinpath(name).read_text(encoding="utf-8")
