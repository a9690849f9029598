"""Does z hold the ball? The true state read off latents, against floors; needs the extra ``inspect`` (scikit-learn)."""

from importlib.util import find_spec

if find_spec("sklearn") is None:
    raise ImportError("sb3_latent.probes needs scikit-learn: pip install sb3_latent[inspect]")

from sb3_latent.probes.atari_ram import ram_indices
from sb3_latent.probes.charts import probe_bars
from sb3_latent.probes.dataset import Dataset, collect
from sb3_latent.probes.disentanglement import Dci, Disentanglement, dci, disentanglement, mig
from sb3_latent.probes.encoders import Encoder, encode
from sb3_latent.probes.labels import Labels, LabelsInInfo
from sb3_latent.probes.probing import probe, probe_dataset
from sb3_latent.probes.report import Report, Score

__all__ = [
    "Dataset",
    "Dci",
    "Disentanglement",
    "Encoder",
    "Labels",
    "LabelsInInfo",
    "Report",
    "Score",
    "collect",
    "dci",
    "disentanglement",
    "encode",
    "mig",
    "probe",
    "probe_bars",
    "probe_dataset",
    "ram_indices",
]
