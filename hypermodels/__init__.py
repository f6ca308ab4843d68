"""Networks over the block families: random ones to judge a latency model on."""

from blsm.hypermodels.random_networks import sample_networks

__all__ = ["sample_networks"]
