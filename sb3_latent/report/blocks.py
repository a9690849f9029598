"""What a section of the report is made of."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sb3_latent.report.charts import Chart
from sb3_latent.report.pictures import Picture


@dataclass(frozen=True)
class Missing:
    """
    :param text: a sentence: what there would be, and what to switch on to have it.
    """

    text: str


@dataclass(frozen=True)
class Note:
    """
    :param text: small print.
    """

    text: str


@dataclass(frozen=True)
class Charts:
    """
    :param charts: beside each other where there is room.
    """

    charts: Sequence[Chart]


@dataclass(frozen=True)
class Table:
    """
    :param caption: what stands in it.
    :param head: of the columns.
    :param rows: of text; the first cell of each is its head.
    :param folded: whether it is shown on demand only.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = False


@dataclass(frozen=True)
class Track:
    """
    Pictures in one place, one shown at a time.

    :param title: whose they are.
    :param pictures: each once.
    :param shown: for each position of the slider, which of them.
    :param alt: what they show.
    """

    title: str
    pictures: Sequence[Picture]
    shown: Sequence[int]
    alt: str


@dataclass(frozen=True)
class Viewer:
    """
    Tracks that one slider moves through.

    :param title: above it.
    :param slider: what the slider counts, e.g. ``"Environment steps"``.
    :param positions: what the page says at each position.
    :param tracks: moved together.
    :param start: the position shown first.
    :param note: small print.
    :param plays: whether it has a button that moves on by itself.
    :param chart: has a mark that moves with the slider to ``marks``.
    :param marks: where on the chart's axis each position lies.
    :param kind: for the page's style.
    """

    title: str
    slider: str
    positions: Sequence[str]
    tracks: Sequence[Track]
    start: int = 0
    note: str = ""
    plays: bool = False
    chart: Chart | None = None
    marks: Sequence[float] = ()
    kind: str = "wide"


@dataclass(frozen=True)
class Gallery:
    """
    :param title: above it.
    :param stills: pictures that do not change, with their titles.
    :param viewers: side by side where there is room.
    :param note: small print.
    """

    title: str
    stills: Sequence[tuple[str, Picture]]
    viewers: Sequence[Viewer]
    note: str = ""


@dataclass(frozen=True)
class Part:
    """
    :param title: of a subsection; empty for the body of a section.
    :param text: how to read it.
    :param blocks: in order.
    """

    title: str
    text: str
    blocks: Sequence[Any]


@dataclass(frozen=True)
class Section:
    """
    :param name: its anchor.
    :param title: its heading.
    :param parts: in order.
    :param data: its numbers, for the JSON beside the page.
    """

    name: str
    title: str
    parts: Sequence[Part]
    data: Any = field(default_factory=dict)
