"""Pretrained weights: the catalogue, fetching with hash checks, and converters."""
