"""Ray Train entry points: they set up workers and hand over to synthrec.training."""
