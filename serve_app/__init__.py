"""The Ray Serve application: what is deployed, and the HTTP API."""
