"""Every guard of a promise, and the test that goes red when it is removed."""
