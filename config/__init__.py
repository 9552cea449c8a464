"""Configuration: every variable, read and checked once at the start; and the logging chain."""
