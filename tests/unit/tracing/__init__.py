"""Tests of what is drawn, without a tracing library."""
