"""The HTTP routes, by subject: thin, each a call of the service."""
