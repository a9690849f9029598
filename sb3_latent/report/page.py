"""The page: sections into templates, and everything into one file."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from importlib.resources import files
from math import isfinite
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]  # plotly has no types
from tqdm.auto import tqdm

from sb3_latent.evaluation import evaluating
from sb3_latent.files import atomic_path, write_json
from sb3_latent.report.blocks import Missing, Section, Track
from sb3_latent.report.comparison import comparison_section
from sb3_latent.report.learning import learning_section
from sb3_latent.report.material import Material, gather, read_run
from sb3_latent.report.overview import configuration_section, runs_section
from sb3_latent.report.playing import Play, Played, play_run
from sb3_latent.report.probed import probes_section
from sb3_latent.report.runs import Run
from sb3_latent.report.seeing import film_section, latents_section, sheets_section

PLAY = Play()
_NOT_PLAYED = Missing("Nothing was played: leave out --no-play.")


def write_report(runs: Sequence[Run], path: str | Path, play: Play | None = PLAY, *, progress_bar: bool = False) -> list[Path]:
    """
    Write one page about runs that opens from disk without a network, and beside it a JSON of its numbers.

    What was not logged is said in a sentence, with what to switch on; so is what cannot be read. One run of each method plays
    an episode: the first that holds a model.

    :param runs: from :func:`~sb3_latent.report.find_runs`; runs of one label are seeds of a method.
    :param path: of the page, ``.html``; the JSON has the same stem.
    :param play: the episode; None plays none.
    :param progress_bar: show one over the stages.
    :return: the files written.
    :raises ValueError: if there is nothing at all in any folder, or ``path`` does not end in ``.html``.
    :raises OSError: if a file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".html":
        raise ValueError(f"{path} is to be a page, but does not end in .html.")
    stages = len(runs) + len({run.label for run in runs}) + 2
    with tqdm(total=stages, unit="stage", disable=not progress_bar) as bar:

        def advance(what: str) -> None:
            bar.set_description(what, refresh=False)
            bar.update()

        read = []
        for run in runs:
            read.append(read_run(run))
            advance(f"read {run.name}")
        material = gather(read)
        played = _played(material, play, advance)
        sections = _sections(material, played)
        advance("drawn")
        with atomic_path(path) as temporary:
            temporary.write_text(_render(material, sections), encoding="utf-8")
        write_json(path.with_suffix(".json"), _plain({section.name: section.data for section in sections}))
        advance("written")
    return [path, path.with_suffix(".json")]


def _played(material: Material, play: Play | None, advance: Callable[[str], None]) -> dict[str, Played | Missing]:
    played: dict[str, Played | Missing] = {}
    for label in material.labels:
        if play is None:
            played[label] = _NOT_PLAYED
        else:
            own = material.of(label)
            one = next((one for one in own if one.run.model is not None), own[0])
            # To load a model draws its first weights.
            with evaluating(None):
                played[label] = play_run(one.run, play, one.env_id)
        advance(f"played {label}")
    return played


def _sections(material: Material, played: Mapping[str, Played | Missing]) -> list[Section]:
    return [
        runs_section(material),
        comparison_section(material),
        learning_section(material),
        sheets_section(material),
        film_section(material, played),
        latents_section(material, played),
        probes_section(material),
        configuration_section(material),
    ]


def _render(material: Material, sections: Sequence[Section]) -> str:
    environment = Environment(
        loader=PackageLoader("sb3_latent.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["kind"] = lambda block, name: type(block).__name__ == name
    environment.filters["verbatim"] = _verbatim
    environment.globals["uris"] = _uris
    titles = ", ".join(material.labels)
    values: dict[str, Any] = {
        "title": f"Report on {titles}",
        "sections": sections,
        "material": material,
        "plotly": get_plotlyjs(),
        "script": files("sb3_latent.report").joinpath("templates/report.js").read_text(encoding="utf-8"),
        "version": version("sb3_latent"),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }
    return environment.get_template("report.html").render(values)


def _uris(tracks: Sequence[Track]) -> list[dict[str, list[Any]]]:
    return [{"pictures": [picture.uri for picture in track.pictures], "shown": list(track.shown)} for track in tracks]


def _plain(data: Any) -> Any:
    """With None for numbers that are not finite, for which JSON has no word."""
    if isinstance(data, Mapping):
        return {key: _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(value) for value in data]
    return None if isinstance(data, float) and not isfinite(data) else data


def _verbatim(source: str) -> Markup:
    """Our own style sheet and scripts, and Plotly's: in a <script>, nothing is escaped, and only its own end would end it."""
    if "</script" in source.lower() or "</style" in source.lower():
        raise ValueError("a script or style sheet of the report would end its own element.")
    return Markup(source)
