"""How a model is served: the servable, the bundle, the parity proof."""
