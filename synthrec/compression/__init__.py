"""Encoders made small and fast for serving: exported and in int8, or a vector a token."""
