"""Trainable models: one published idea a file, in Keras.

A model module offers `build(settings, …) -> keras.Model`, `loss`, and `export`, which gives the arrays and the
description that the compiled rollout reads.
"""
