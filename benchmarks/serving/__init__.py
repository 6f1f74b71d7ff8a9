"""The endpoint: requests a second and waits, beside infinity-emb and beside its own handlers under bare uvicorn."""
