"""Sequencers and the program memory."""
