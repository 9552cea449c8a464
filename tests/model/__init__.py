"""The model test: the real engine, HTTP client, ledger and scripts under a scheduler that hypothesis drives.

What is replaced is only what lies outside a worker's process, and time:

- `calls`: every round trip to Redis stands still before it takes effect and again before it is answered.
  The server and the scripts are real; the `TIME` that they see is a key that the test sets.
- `wire`: the same for every request to the API, in place of the one function that sends.
- `kinetic_world`: the API, and the record that knows each clone's parent.
- `clockwork`: virtual time, and an event loop that lives by it.

`process` is one worker, `cluster` what can happen to several, `laws` what must hold; `machine` draws what
happens next among `moves`, `test_interleavings` says it.

What the model takes for granted, as the design does:

- A retry call is acted on within the bound of a request after it left, or within half the grace after its
  caller gave up, or never.
- Redis keeps what it has acknowledged, and there is one clock in it.
- A single stranger that has the payload of an unclear call, in a list in which nobody else has it, cannot
  be told from the clone: here a payload that is shared is always shared by several.
- With `RESOLVE_UNCLEAR=adopt` two failures may swap their clones; there are never more clones than failures.

`MODEL_STEPS=200000` takes that many steps, new ones each time; `MODEL_SHRINK=0` shows a failure as it was
found, without looking for a shorter one.
"""
