"""Training a model on rules: mixture, packing, loop, checkpoints.

It imports `synth`, `answering` and rooms before them.
"""
