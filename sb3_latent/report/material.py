"""All that was read of the runs, and how they are told apart."""

from collections.abc import Sequence
from dataclasses import dataclass

from sb3_latent.report.charts import Look, looks_of
from sb3_latent.report.configuration import read_configuration
from sb3_latent.report.logs import Logs, read_logs
from sb3_latent.report.runs import Run


@dataclass(frozen=True)
class RunData:
    """
    :param run: which.
    :param logs: what it wrote while it learned.
    :param settings: how it was set up, by name.
    :param problems: a line for each thing that could not be used.
    """

    run: Run
    logs: Logs
    settings: dict[str, str]
    problems: list[str]

    @property
    def label(self) -> str:
        """:return: the method."""
        return self.run.label

    @property
    def env_id(self) -> str | None:
        """:return: where it learned, if a file says so."""
        return self.settings.get("env") or self.logs.env_id


@dataclass(frozen=True)
class Material:
    """
    :param runs: at least one.
    :param looks: of each label.
    """

    runs: Sequence[RunData]
    looks: dict[str, Look]

    @property
    def labels(self) -> list[str]:
        """:return: the methods, each once."""
        return list(self.looks)

    def of(self, label: str) -> list[RunData]:
        """
        :param label: of a method.
        :return: its runs.
        """
        return [one for one in self.runs if one.label == label]


def read_run(run: Run) -> RunData:
    """
    :param run: any.
    :return: what could be read; :attr:`RunData.problems` says what could not.
    """
    logs = read_logs(run)
    settings, problems = read_configuration(run)
    if not (logs.scalars or logs.sheets or settings):
        problems = [*problems, f"{run.folder} holds nothing that a run leaves: no log, no monitor file, no model"]
    return RunData(run, logs, settings, [*problems, *logs.problems])


def gather(runs: Sequence[RunData]) -> Material:
    """
    :param runs: what was read.
    :return: all of them.
    :raises ValueError: if nothing at all is in any of them.
    """
    if not any(one.logs.scalars or one.logs.sheets or one.settings for one in runs):
        raise ValueError("; ".join(problem for one in runs for problem in one.problems))
    return Material(runs, looks_of(list(dict.fromkeys(one.label for one in runs))))
