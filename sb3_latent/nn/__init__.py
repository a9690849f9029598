"""Networks: trunks and heads make encoders, likelihoods read decoders, augmentations make other views of images."""

from sb3_latent.nn.augmentation import AUGMENTATIONS, Augmentation, RandomShift
from sb3_latent.nn.convolutional import ConvLayer, ConvTrunk, DmcTrunk, NatureTrunk, Seed84Trunk
from sb3_latent.nn.encoder import Encoder
from sb3_latent.nn.heads import HEADS, DeterministicHead, GaussianHead, Head, IdentityHead, LayerNormTanhHead
from sb3_latent.nn.impala import ImpalaTrunk
from sb3_latent.nn.initialization import INITIALIZATIONS
from sb3_latent.nn.likelihoods import LIKELIHOODS, Bernoulli, Gaussian, Likelihood, SquaredError
from sb3_latent.nn.mlp import FlattenTrunk, MlpTrunk
from sb3_latent.nn.observation_encoder import ObservationEncoder, ObservationHeads
from sb3_latent.nn.trunk import TRUNKS, Trunk, list_image_trunks
from sb3_latent.nn.world_model import DreamerTrunk, SlacTrunk

__all__ = [
    "AUGMENTATIONS",
    "HEADS",
    "INITIALIZATIONS",
    "LIKELIHOODS",
    "TRUNKS",
    "Augmentation",
    "Bernoulli",
    "ConvLayer",
    "ConvTrunk",
    "DeterministicHead",
    "DmcTrunk",
    "DreamerTrunk",
    "Encoder",
    "FlattenTrunk",
    "Gaussian",
    "GaussianHead",
    "Head",
    "IdentityHead",
    "ImpalaTrunk",
    "LayerNormTanhHead",
    "Likelihood",
    "MlpTrunk",
    "NatureTrunk",
    "ObservationEncoder",
    "ObservationHeads",
    "RandomShift",
    "Seed84Trunk",
    "SlacTrunk",
    "SquaredError",
    "Trunk",
    "list_image_trunks",
]
