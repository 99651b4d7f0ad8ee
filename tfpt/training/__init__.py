"""How a model is trained: splits, batch plan, input pipeline, loop, optimizers, checkpoints."""
