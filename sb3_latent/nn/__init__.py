"""Networks: trunks and heads make encoders, likelihoods read decoders."""

from sb3_latent.nn.convolutional import ConvLayer, ConvTrunk, NatureTrunk, Seed84Trunk
from sb3_latent.nn.encoder import Encoder
from sb3_latent.nn.heads import HEADS, DeterministicHead, GaussianHead, Head, IdentityHead
from sb3_latent.nn.impala import ImpalaTrunk
from sb3_latent.nn.likelihoods import LIKELIHOODS, Bernoulli, Gaussian, Likelihood, SquaredError
from sb3_latent.nn.mlp import MlpTrunk
from sb3_latent.nn.observation_encoder import ObservationEncoder
from sb3_latent.nn.trunk import TRUNKS, Trunk

__all__ = [
    "HEADS",
    "LIKELIHOODS",
    "TRUNKS",
    "Bernoulli",
    "ConvLayer",
    "ConvTrunk",
    "DeterministicHead",
    "Encoder",
    "Gaussian",
    "GaussianHead",
    "Head",
    "IdentityHead",
    "ImpalaTrunk",
    "Likelihood",
    "MlpTrunk",
    "NatureTrunk",
    "ObservationEncoder",
    "Seed84Trunk",
    "SquaredError",
    "Trunk",
]
