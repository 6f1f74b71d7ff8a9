"""synthrec: labelled search-and-recommendation data synthesised by a language model, and what is trained on it."""

__version__ = "0.1.0"
