"""What an agent looks at: saliency maps of any target of any model, and tests of the methods that make them."""

from sb3_latent.saliency.captum_methods import GuidedBackprop, IntegratedGradients, Occlusion, SmoothGrad
from sb3_latent.saliency.charts import similarity_chart, vector_chart
from sb3_latent.saliency.episodes import episode_saliency, episode_target, saliency_sheet, saliency_video
from sb3_latent.saliency.inputs import Array, Frames, black
from sb3_latent.saliency.maps import saliency, value_jacobian
from sb3_latent.saliency.methods import METHODS, Jacobian, Method
from sb3_latent.saliency.perturbation import Perturbation
from sb3_latent.saliency.pictures import frame_channels, frames_of, newest_frame, newest_pictures, to_uint8
from sb3_latent.saliency.rendering import PERCENTILE, STYLES, Style, intensity, render
from sb3_latent.saliency.sanity import LayerSimilarity, Randomization, sanity_check
from sb3_latent.saliency.scene import Scene
from sb3_latent.saliency.situation import LstmStates
from sb3_latent.saliency.targets import list_targets

__all__ = [
    "METHODS",
    "PERCENTILE",
    "STYLES",
    "Array",
    "Frames",
    "GuidedBackprop",
    "IntegratedGradients",
    "Jacobian",
    "LayerSimilarity",
    "LstmStates",
    "Method",
    "Occlusion",
    "Perturbation",
    "Randomization",
    "Scene",
    "SmoothGrad",
    "Style",
    "black",
    "episode_saliency",
    "episode_target",
    "frame_channels",
    "frames_of",
    "intensity",
    "list_targets",
    "newest_frame",
    "newest_pictures",
    "render",
    "saliency",
    "saliency_sheet",
    "saliency_video",
    "sanity_check",
    "similarity_chart",
    "to_uint8",
    "value_jacobian",
    "vector_chart",
]
