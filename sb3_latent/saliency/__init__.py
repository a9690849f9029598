"""What an agent looks at: saliency maps of any target of any model, and tests of the methods that make them."""

from sb3_latent.saliency.captum_methods import GuidedBackprop, IntegratedGradients, Occlusion, SmoothGrad
from sb3_latent.saliency.inputs import Array, Frames
from sb3_latent.saliency.maps import saliency, value_jacobian
from sb3_latent.saliency.methods import METHODS, Jacobian, Method
from sb3_latent.saliency.perturbation import Perturbation
from sb3_latent.saliency.pictures import frame_channels, newest_frame, newest_pictures, overlay, to_uint8
from sb3_latent.saliency.sanity import LayerSimilarity, Randomization, sanity_check
from sb3_latent.saliency.scene import Scene
from sb3_latent.saliency.situation import LstmStates
from sb3_latent.saliency.targets import list_targets

__all__ = [
    "METHODS",
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
    "frame_channels",
    "list_targets",
    "newest_frame",
    "newest_pictures",
    "overlay",
    "saliency",
    "sanity_check",
    "to_uint8",
    "value_jacobian",
]
