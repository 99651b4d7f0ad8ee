"""How a model is measured: scoring, intervals, the report."""
