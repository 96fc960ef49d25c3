"""Repositories: static files, trusted by TUF; only what is missing is fetched."""
