"""The HTTP API in JSON: one file for each resource, with its replies, and the wrappers of all routes."""
