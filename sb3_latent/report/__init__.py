"""One page about runs: what they logged and what their agents see; needs the extra ``report`` (Jinja2, Plotly, rliable)."""

from importlib.util import find_spec

if missing := [name for name in ("jinja2", "plotly", "rliable", "sklearn") if find_spec(name) is None]:
    raise ImportError(f"the report needs {', '.join(missing)}: pip install 'sb3_latent[report]'")

from sb3_latent.report.page import write_report
from sb3_latent.report.playing import Play
from sb3_latent.report.runs import Run, find_runs

__all__ = ["Play", "Run", "find_runs", "write_report"]
