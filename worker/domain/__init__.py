"""The pure domain: no clock, no network, no storage. Imports only the standard library."""
