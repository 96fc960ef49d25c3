"""An OCI registry that holds a repository: its API, reading, and pushing."""
