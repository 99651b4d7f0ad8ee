"""Keras layers shared by tasks and backbones, one idea a file."""
