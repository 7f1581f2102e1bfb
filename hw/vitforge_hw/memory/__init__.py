"""Activation buffer, weight buffer, parameter memories."""
