"""Metrics shared by tasks, computed from gathered per-example values."""
