"""Profiles of training steps: where their time and memory go."""
