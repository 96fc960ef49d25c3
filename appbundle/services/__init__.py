"""Services on a node: units, supervisors, health, and how a switch becomes one transaction."""
