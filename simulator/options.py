"""How this deployment of the simulated API differs from the next: the parts nobody documents.

Every option can be changed while the simulator runs (`POST /_control/options`).
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class Pagination(StrEnum):
    """How a list is read on: by `offset`, by 1-based `page`, by `cursor`, or all at once."""

    OFFSET = "offset"
    PAGE = "page"
    CURSOR = "cursor"
    NONE = "none"


class Envelope(StrEnum):
    """Where the array of executions is: the answer itself, or a field of it."""

    BARE = "bare"
    ITEMS = "items"
    EXECUTIONS = "executions"
    DATA = "data"
    RESULTS = "results"


class Order(StrEnum):
    """The order of a list, by `created_at`."""

    DESC = "desc"
    ASC = "asc"


class Options(BaseModel):
    """The deployment's habits.

    Attributes:
        api_key: what `X-Kinetic-Key` must hold.
        pagination, envelope, order: see the enums. A bare array cannot carry a cursor: the header
            `X-Next-Cursor` does.
        next_field: the field of the envelope that holds the next cursor; null at the end.
        page_cap: most executions on a page, whatever was asked; not used without pagination.
        ignore_status_filter: the list answers executions of every status.
        payload_in_list: False leaves `input_payload` out of lists.
        has_list: False answers 404 to the list, as a deployment without one would.
        has_logs: False leaves `logs_url` out and answers 404 to requests for logs.
        retry_in_place: a retry answers with the same uuid and the execution runs again.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    api_key: str = Field(default="simulator-key", min_length=1)
    pagination: Pagination = Pagination.OFFSET
    envelope: Envelope = Envelope.BARE
    order: Order = Order.DESC
    next_field: str = "next_cursor"
    page_cap: int = Field(default=100, ge=1)
    ignore_status_filter: bool = False
    payload_in_list: bool = True
    has_list: bool = True
    has_logs: bool = True
    retry_in_place: bool = False
