"""Prints the reference of the configuration, made from the fields' own descriptions.

`python -m config.reference` prints docs/configuration.md, `--env-example` prints .env.example; a test
keeps both files in step. Owns the words around the tables and nothing that a field says.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import groupby

from config.catalog import REQUIRED, VARIABLES, Variable
from config.kinds import takes_of
from config.policy_keys import KEYS

_FIRST = (*REQUIRED, "REDIS_URL")

_INTRODUCTION = """\
# Configuration

The worker is configured by environment variables. A wrong value stops the start with exit code 2 and
one line per problem: the variable, what it got (secrets masked) and what it takes. `kinetic-retry
config` prints every value in force and where it came from.

<!-- Made by `python -m config.reference`; change the descriptions in config/schema.py. -->

## Where values come from

From the first of these that has one:

1. the environment;
2. a file `.env` in the working directory (`NAME=value` lines, read as they stand: `${NAME}` is not
   replaced);
3. the default.

Names are found in upper or lower case. An empty value counts as not given, except where an empty name
means that the server has no such parameter. A name that starts like ours and is none is a problem, so
that a slip of the keyboard does not silently leave a default in force.

**Secrets from files.** `KINETIC_API_KEY_FILE`, `REDIS_URL_FILE` and `CELERY_BROKER_URL_FILE` name a file
that holds the value, such as a container secret. White space around it is removed. The file and the
variable itself exclude each other.

**Durations** are written `30s`, `5m`, `24h`, `1h30m`, `500ms`, `1d12h`, as plain seconds (`90`), with
decimals (`1.5h`), or in ISO 8601 (`PT1H30M`); they are never negative and at most 10 years.

**Parts of the week** are written `22:00-06:00` (every day, over midnight), `mon-fri 08:00-18:00`, `sat,sun`
(whole days) or `fri 18:00-mon 08:00`; several are separated by `;`. They hold while a clock on the wall in
the time zone shows such a time: an hour that daylight saving skips does not come, one that it repeats comes
twice.

**Switches** take `true` or `false`, and also `1`/`0`, `yes`/`no`, `on`/`off`.
"""

_POLICY_FILE = """\
## The policy file

`RETRY_POLICY_FILE` names a TOML file with policies for single workflows:

```toml
[[policy]]
name = "eligibility checks"     # for people; "entry 1" when it is left out
workflow = "Eligibility*"       # a name pattern or a workflow uuid, or a list of them
max_attempts = 8
backoff = "fixed"
base_delay = "30s"
timezone = "America/New_York"
quiet_hours = ["mon-fri 22:00-06:00", "sat,sun"]    # one text or a list of them; "" for none
useless_after = "18:00"

[[policy]]
name = "never twice"
workflow = ["Submit claim *", "wf-7f3c"]
enabled = false                 # failures are rejected with a reason, not retried

[[policy]]
workflow = "Claim status *"
[[policy.log]]                  # rules about the logs of this entry's workflows come first
pattern = "portal is under maintenance"
then = "retry"                  # retry (however often it fails the same way), stop or hold

[[log]]                         # rules for every workflow
name = "bad credentials"        # what people are shown; the pattern when it is left out
pattern = "invalid (user|password)"     # RE2, in any case, line by line
then = "hold"                   # a person has to do something first
```

Log rules need `KINETIC_LOGS`. A failed run's log is read right before it would be retried; the first rule
whose pattern any of its lines matches decides. Nothing of the log is kept or shown. A log that cannot be read
decides nothing.

The first entry that matches a workflow counts. A pattern knows `*`, `?` and `[…]` and does not care
about case; each text is compared with the name as a pattern and with the uuid as it is. Whatever an
entry leaves out it inherits from the variables.

| key | takes | variable it overrides |
| --- | --- | --- |
| `name` | text | |
| `workflow` | a pattern or uuid, or a list of them | |
"""


def configuration_page() -> str:
    """Return docs/configuration.md."""
    return "\n".join([_INTRODUCTION, *_tables(), _POLICY_FILE + "\n".join(_policy_rows()), ""])


def env_example() -> str:
    """Return .env.example: every variable with its default, commented out; those to set come first."""
    lines = [
        "# Copy to .env and set what differs from the defaults. The environment wins over this file.",
        "# docs/configuration.md explains every variable.",
    ]
    first = [VARIABLES[name] for name in _FIRST]
    rest = [variable for variable in VARIABLES.values() if variable not in first]
    lines += _example_group("To set first", first)
    for title, variables in groupby(rest, key=lambda variable: variable.title):
        lines += _example_group(title, list(variables))
    return "\n".join([*lines, ""])


def _tables() -> Iterator[str]:
    for title, variables in groupby(VARIABLES.values(), key=lambda variable: variable.title):
        yield f"## {title}\n"
        yield "| variable | default | takes | what it does |\n| --- | --- | --- | --- |"
        for variable in variables:
            cells = (_names(variable), _code(variable.default), variable.takes, variable.description)
            yield f"| {' | '.join(map(_cell, cells))} |"
        yield ""


def _policy_rows() -> Iterator[str]:
    for name, key in KEYS.items():
        overrides = f" `{key.variable}`" if key.variable else ""
        yield f"| `{name}` | {_cell(takes_of(key.field))} |{overrides} |"


def _example_group(title: str, variables: list[Variable]) -> Iterator[str]:
    yield f"\n# --- {title} ---"
    for variable in variables:
        yield f"\n# {variable.description.replace('**', '').replace('`', '')}"
        yield f"# Takes {variable.takes}."
        yield f"# {variable.name}={variable.default}"


def _names(variable: Variable) -> str:
    return f"`{variable.name}`" + (f" or `{variable.file_name}`" if variable.file_name else "")


def _code(text: str) -> str:
    return f"`{text}`" if text else "none"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(env_example() if "--env-example" in sys.argv[1:] else configuration_page())
