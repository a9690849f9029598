"""The verbs of ``sb3-latent`` that look at saved models; each is a module with a function ``run``."""
