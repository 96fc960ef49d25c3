"""Services as applications: signed, self-contained bundles on one's own hosts."""

__version__ = "0.1.0"
