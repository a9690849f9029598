"""Hyperparameters in the YAML layout of rl-zoo, installed as package data of ``sb3_latent.zoo_configs``."""
