"""Strict readers of all input: JSON bodies, rows and files of requests, session reports, history files."""
