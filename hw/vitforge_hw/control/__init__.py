"""Sequencers, registers, job queue."""
