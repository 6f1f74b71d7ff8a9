"""Requests and replies of the API, as OpenAPI shows them."""
