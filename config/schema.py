"""Every variable: its name, default, kind and description. The one place where they are written down.

Owns the shape of `Settings`. It reads nothing: `config.settings.load_settings` gathers the values, and
`config.reference` prints this module as documentation. A field with a description is a variable; its
name is the group's prefix and the field's name in capitals, unless `VARIABLE_NAMES` says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, Field, InstanceOf, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from config.alert_urls import AlertLink, AlertUrls, alert_secrets, split_alert_urls
from config.kinds import (
    AnyCase,
    ApiKey,
    Attempts,
    BaseUrl,
    BrokerUrl,
    Count,
    Duration,
    FieldPath,
    ListenAddress,
    LogLevel,
    LogsHosts,
    LogsPath,
    Multiplier,
    Namespace,
    OptionalFieldPath,
    OptionalParameterName,
    OptionalTomlFile,
    ParameterName,
    PositiveDuration,
    Rate,
    RedisUrl,
    Share,
    Spans,
    Strikes,
    TimeZone,
    UrlPath,
    UselessAfter,
    Window,
)
from config.redaction import url_secrets
from worker.domain.breaker import Rule as BreakerRule
from worker.domain.budget import Limits, WorkflowLimits
from worker.domain.calendar import UTC_ZONE, Calendar
from worker.domain.logs import LogRule
from worker.domain.policy import Backoff, Jitter, Policy, PolicyBook, PolicyEntry

if TYPE_CHECKING:
    from worker.domain.alerts import Rules as AlertRules

VARIABLE_NAMES = {"broker_url": "CELERY_BROKER_URL"}


class Group(BaseModel):
    """Variables that share a prefix."""

    # Built with the whole: a validator of its own for each group would double the time to start.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    prefix: ClassVar[str]
    title: ClassVar[str]


class ListSettings(Group):
    """How this deployment lists executions; the published contract does not say."""

    prefix: ClassVar[str] = "KINETIC_LIST_"
    title: ClassVar[str] = "Listing executions"

    path: UrlPath = Field("/api/executions", description="Where executions are listed.")
    status_param: OptionalParameterName = Field(
        "status",
        description="Parameter that asks for one status. The worker filters as well, so it may be ignored.",
    )
    pagination: Annotated[Literal["offset", "page", "cursor", "none"], AnyCase] = Field(
        "offset", description="How the list is paged; `page` counts from 1."
    )
    limit_param: ParameterName = Field("limit", description="Parameter for the page size.")
    offset_param: ParameterName = Field("offset", description="Parameter for `offset` paging.")
    page_param: ParameterName = Field("page", description="Parameter for `page` paging.")
    cursor_param: ParameterName = Field("cursor", description="Parameter for `cursor` paging.")
    next_field: FieldPath = Field(
        "next_cursor", description="Field of the answer that holds the next cursor."
    )
    items_field: OptionalFieldPath = Field(
        None,
        description="Field of the answer that holds the executions. Not set: the answer is an array, "
        "or holds it under `items`, `executions`, `data` or `results`.",
    )
    page_size: Annotated[int, Ge(1), Le(10_000)] = Field(
        100, description="Executions asked for per page; the server may give fewer."
    )
    order: Annotated[Literal["desc", "asc", "unknown"], AnyCase] = Field(
        "desc", description="Order of the list by creation: newest first is `desc`."
    )
    since_param: OptionalParameterName = Field(
        "", description="Parameter that leaves out executions older than a time, when the server has one."
    )


class KineticSettings(Group):
    """The Kinetic API."""

    prefix: ClassVar[str] = "KINETIC_"
    title: ClassVar[str] = "The Kinetic API"

    base_url: BaseUrl = Field(
        "",
        description="**Required.** Address of the deployment, https; may end in a path.",
    )
    api_key: ApiKey = Field(
        SecretStr(""), description="**Required.** Sent as `X-Kinetic-Key` with every call."
    )
    allow_http: bool = Field(
        False,
        description="Allow http to a host other than this machine. The API key then travels unencrypted.",
    )
    timeout: PositiveDuration = Field(
        timedelta(seconds=30), description="How long a call may take once it is connected."
    )
    connect_timeout: PositiveDuration = Field(
        timedelta(seconds=5), description="How long connecting may take."
    )
    max_connections: Annotated[int, Ge(1), Le(1000)] = Field(
        50, description="Open connections per worker process."
    )
    logs: Annotated[Literal["off", "url", "path"], AnyCase] = Field(
        "off",
        description="Where the logs of failed runs are read for the policy file's `[[log]]` rules: nowhere, "
        "at the execution's `logs_url`, or at `KINETIC_LOGS_PATH`. Their text is searched and never kept.",
    )
    logs_path: LogsPath = Field(
        "/api/executions/{execution_uuid}/logs", description="Where logs are, with `KINETIC_LOGS=path`."
    )
    logs_hosts: LogsHosts = Field(
        "",
        description="With `KINETIC_LOGS=url`: where a `logs_url` may point to besides the API itself. By "
        "https, on port 443 unless a port is named; the API key is never sent there.",
    )
    listing: ListSettings


class LedgerSettings(Group):
    """What Redis remembers."""

    prefix: ClassVar[str] = "LEDGER_"
    title: ClassVar[str] = "Ledger"

    namespace: Namespace = Field(
        "kinetic-retry",
        description="Start of every Redis key; two installations on one Redis need two names.",
    )
    retention: PositiveDuration = Field(
        timedelta(days=30),
        description="How long a finished lineage is remembered; longer than `DISCOVERY_LOOKBACK`.",
    )
    events_maxlen: Annotated[int, Ge(1), Le(1_000_000_000)] = Field(
        100_000, description="How many events the history keeps, about 200 bytes each."
    )
    wait_replicas: Annotated[int, Ge(0), Le(100)] = Field(
        0,
        description="How many replicas must have an intent before its call leaves. At least 1 where a "
        "replica may take over (Sentinel): what it does not have is lost then.",
    )
    wait_disk: bool = Field(
        False,
        description="Let a call leave only when its intent is on disk, the replicas' included "
        "(Redis 7.2 or Valkey). For `appendfsync everysec`; calls then wait up to a second.",
    )


class DiscoverySettings(Group):
    """How failures are noticed."""

    prefix: ClassVar[str] = "DISCOVERY_"
    title: ClassVar[str] = "Discovery"

    interval: PositiveDuration = Field(
        timedelta(seconds=30), description="How often the head of the list is read."
    )
    sweep: PositiveDuration = Field(
        timedelta(minutes=10),
        description="How often the whole look-back is read, for what the head cannot show.",
    )
    lookback: PositiveDuration = Field(timedelta(hours=24), description="How far back a sweep reads.")
    backfill: Duration = Field(
        timedelta(0),
        description="How old a failure may be at the first start and still be retried.",
    )
    mode: Annotated[Literal["list", "track", "both"], AnyCase] = Field(
        "list",
        description="Where failures are found. Executions named by `kinetic-retry track` are watched in "
        "every mode; `track` uses no list at all; `both` says the same as `list`.",
    )
    survey: bool = Field(
        True,
        description="Also read the newest executions of every status: what completes tells the breaker, the "
        "prompt first attempt and the budget how things stand. Costs one list call per interval, up to 20 on "
        "a busy platform (100 in a sweep), and more when someone's retry has to be judged.",
    )


class RetrySettings(Group):
    """Which failures are retried, and when."""

    prefix: ClassVar[str] = "RETRY_"
    title: ClassVar[str] = "Retry policy"

    max_attempts: Attempts = Field(
        5, description="Clones per failed execution; its own run is not counted. 0: watch and report only."
    )
    backoff: Annotated[Backoff, AnyCase] = Field(
        Backoff.EXPONENTIAL, description="How the delay grows from attempt to attempt."
    )
    base_delay: Duration = Field(
        timedelta(minutes=1), description="Delay before the first attempt; not longer than `RETRY_MAX_DELAY`."
    )
    multiplier: Multiplier = Field(4.0, description="Growth of the exponential backoff.")
    max_delay: Duration = Field(timedelta(hours=4), description="No delay is longer than this.")
    jitter: Annotated[Jitter, AnyCase] = Field(
        Jitter.EQUAL,
        description="How much of the delay is random: nothing, all, half, or AWS's decorrelated.",
    )
    deadline: PositiveDuration = Field(
        timedelta(hours=24), description="No attempt starts later than this after the first failure."
    )
    timezone: TimeZone = Field(
        UTC_ZONE,
        description="Whose wall clock `RETRY_QUIET_HOURS`, `RETRY_WINDOWS` and `RETRY_USELESS_AFTER` go by. "
        "A place has its daylight saving, such as `America/New_York`; `EST` and its like have none.",
    )
    quiet_hours: Spans = Field(
        (), description="No attempt starts at these times; one that falls due then waits. Empty: none."
    )
    windows: Spans = Field(
        (), description="Attempts start at these times only, quiet hours excepted. Empty: at any time."
    )
    useless_after: UselessAfter = Field(
        None,
        description="From when on a retry is of no use, and is not made: the first such time of day after "
        "the original failed, or so long after that. Empty: never.",
    )
    prompt: bool = Field(
        True,
        description="Make the first attempt at once while other runs of the workflow complete: the failure "
        "is most likely that run's own.",
    )
    join: bool = Field(
        True,
        description="A retry that someone else made of a failed execution (same distinctive payload) takes "
        "the place of the next attempt, instead of making another.",
    )
    strikes: Strikes = Field(
        3,
        description="After so many equal failures in a row, the original's included, there is no further "
        "attempt. 0: never for that reason.",
    )
    in_flight: Count = Field(
        0, description="Unfinished clones of all workflows together at once. 0: no limit."
    )
    workflow_in_flight: Count = Field(0, description="Unfinished clones per workflow at once. 0: no limit.")
    policy_file: OptionalTomlFile = Field(None, description="Policies for single workflows, see below.")

    entries: tuple[InstanceOf[PolicyEntry], ...] = ()
    log_rules: tuple[InstanceOf[LogRule], ...] = ()

    @property
    def calendar(self) -> Calendar:
        """When attempts of these workflows may start."""
        return Calendar(self.timezone, self.quiet_hours, self.windows, self.useless_after)

    def policy(self, breaker: BreakerRule, limits: WorkflowLimits) -> Policy:
        """Return the policy of every workflow that no entry of the policy file is for."""
        return Policy(
            max_attempts=self.max_attempts,
            backoff=self.backoff,
            base_delay=self.base_delay,
            multiplier=self.multiplier,
            max_delay=self.max_delay,
            jitter=self.jitter,
            deadline=self.deadline,
            calendar=self.calendar,
            prompt=self.prompt,
            join=self.join,
            strikes=self.strikes,
            breaker=breaker,
            limits=limits,
            log_rules=self.log_rules,
        )


class BreakerSettings(Group):
    """When the failures of a workflow wait for it to work again."""

    prefix: ClassVar[str] = "BREAKER_"
    title: ClassVar[str] = "Workflow breaker"

    # Not more: a workflow is judged by its newest 200 runs, of which a failed clone counts half.
    failures: Annotated[int, Ge(0), Le(100)] = Field(
        3,
        description="Failures in a row after which a workflow's failures wait instead of being retried; "
        "successes in between count against them. 0: no breaker.",
    )
    memory: PositiveDuration = Field(
        timedelta(hours=1), description="Runs that ended longer ago than this say nothing."
    )
    first_pause: PositiveDuration = Field(
        timedelta(minutes=1),
        description="After a failure, before one clone tries whether the workflow works again; each that "
        "fails doubles it. Not longer than `BREAKER_LONGEST_PAUSE`.",
    )
    longest_pause: PositiveDuration = Field(
        timedelta(hours=1), description="One clone tries at least this often."
    )

    @property
    def rule(self) -> BreakerRule:
        """The same, as the domain has it."""
        return BreakerRule(self.failures, self.memory, self.first_pause, self.longest_pause)


class BudgetSettings(Group):
    """How many clones may be made for the runs that there are anyhow."""

    prefix: ClassVar[str] = "BUDGET_"
    title: ClassVar[str] = "Retry budget"

    share: Share = Field(
        1.0,
        description="Clones of all workflows together per run that was not a clone, within the window. "
        "0: no limit.",
    )
    floor: Count = Field(100, description="Clones of all workflows that the window may have at least.")
    window: Window = Field(timedelta(hours=6), description="Over which runs and clones are counted.")
    pace: Share = Field(
        1.0,
        description="Clones in 5 minutes, per run of the busiest 5 minutes of the window: what waited comes "
        "back no faster than work usually does. 0: no limit.",
    )
    pace_floor: Annotated[int, Ge(1), Le(1_000_000)] = Field(
        20, description="Clones that any 5 minutes may have at least."
    )
    workflow_share: Share = Field(
        2.0,
        description="Clones of one workflow per run of it that was not a clone, within the window. "
        "0: no limit.",
    )
    workflow_floor: Count = Field(
        10, description="Clones that every workflow may make in the window, whatever all others do."
    )


class SubmitSettings(Group):
    """How due attempts are sent."""

    prefix: ClassVar[str] = "SUBMIT_"
    title: ClassVar[str] = "Submitting"

    interval: PositiveDuration = Field(
        timedelta(seconds=1), description="How often due attempts are looked for."
    )
    batch: Annotated[int, Ge(1), Le(10_000)] = Field(100, description="Lineages claimed at a time.")
    concurrency: Annotated[int, Ge(1), Le(1000)] = Field(
        20, description="Retry calls in flight per worker process."
    )
    rate: Rate = Field(0.0, description="Retry calls per second of all workers together. 0: no limit.")
    burst: Annotated[int, Ge(1), Le(10_000)] = Field(
        10, description="Calls that `SUBMIT_RATE` lets leave at once after a rest."
    )
    lease: PositiveDuration = Field(
        timedelta(minutes=2),
        description="How long a claim is good for; longer than `KINETIC_CONNECT_TIMEOUT` and "
        "`KINETIC_TIMEOUT` together.",
    )


class WatchSettings(Group):
    """How clones are followed."""

    prefix: ClassVar[str] = "WATCH_"
    title: ClassVar[str] = "Watching clones"

    interval: PositiveDuration = Field(
        timedelta(seconds=5), description="Shortest pause between two looks at a clone."
    )
    timeout: PositiveDuration = Field(
        timedelta(hours=24), description="How long a clone may stay unfinished before a person has to look."
    )


class ResolveSettings(Group):
    """What happens when nobody knows whether a retry call was processed."""

    prefix: ClassVar[str] = "RESOLVE_"
    title: ClassVar[str] = "Resolving unclear calls"

    interval: PositiveDuration = Field(
        timedelta(seconds=5), description="How often unclear calls are looked into."
    )
    grace: Duration = Field(
        timedelta(seconds=60),
        description="How long a clone may take to appear before it is taken not to exist.",
    )
    unclear: Annotated[Literal["hold", "adopt", "retry"], AnyCase] = Field(
        "hold",
        description="When a candidate may be an ordinary run: leave it to a person, take it, or clone again.",
    )


class WorkerSettings(Group):
    """The worker's processes."""

    prefix: ClassVar[str] = "WORKER_"
    title: ClassVar[str] = "Worker"

    concurrency: Annotated[int, Ge(1), Le(256)] = Field(2, description="Processes per worker.")


class ServeSettings(Group):
    """Where `kinetic-retry serve` listens."""

    prefix: ClassVar[str] = "SERVE_"
    title: ClassVar[str] = "Metrics and health"

    host: ListenAddress = Field(
        "127.0.0.1",
        description="Where `kinetic-retry serve` listens; in a container 0.0.0.0. There is no password: the "
        "names of workflows are shown to whoever reaches it.",
    )
    port: Annotated[int, Ge(1), Le(65535)] = Field(9464, description="On which port.")


class MetricsSettings(Group):
    """How much metrics tell."""

    prefix: ClassVar[str] = "METRICS_"
    title: ClassVar[str] = "Metrics"

    workflows: Annotated[int, Ge(0), Le(1000)] = Field(
        50,
        description="Most workflows that get time series of their own, first those with most to do; the "
        "others are counted together.",
    )


class TracingSettings(Group):
    """Spans for OpenTelemetry."""

    prefix: ClassVar[str] = "TRACING_"
    title: ClassVar[str] = "Tracing"

    enabled: bool = Field(
        False,
        description="Send spans by OTLP over HTTP. Needs the extra `tracing`; where to and how many is said "
        "by the standard variables `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER` and their like.",
    )


class AlertSettings(Group):
    """What people are told, and where."""

    prefix: ClassVar[str] = "ALERT_"
    title: ClassVar[str] = "Alerts"

    urls: AlertUrls = Field(
        SecretStr(""),
        description="Where messages to people go, as Apprise spells addresses; several are separated by "
        "white space or commas. Needs the extra `alerts`, and the same value for workers, beat and `serve`. "
        "Not set: nobody is told.",
    )
    window: PositiveDuration = Field(
        timedelta(minutes=15),
        description="Of dead letters, rejected and held failures of one workflow there is one message of "
        "each kind in this time, and ten of all workflows; what is beyond is summed up.",
    )
    gate_after: PositiveDuration = Field(
        timedelta(minutes=10),
        description="How long the API may be down, or the list unread, before it is said.",
    )
    tick_after: PositiveDuration = Field(
        timedelta(seconds=20), description="How long no worker may give a sign of life before it is said."
    )
    repeat: PositiveDuration = Field(
        timedelta(hours=4), description="How often something that stays wrong is said again."
    )
    link: AlertLink = Field(
        "",
        description="Where an execution is looked at, such as "
        "`https://kinetic.example.com/executions/{execution_uuid}`; `{workflow_uuid}` is replaced as well. "
        "Not set: messages have the uuids alone.",
    )

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses, one by one."""
        return split_alert_urls(self.urls.get_secret_value())


class LogSettings(Group):
    """Log lines."""

    prefix: ClassVar[str] = "LOG_"
    title: ClassVar[str] = "Logging"

    level: LogLevel = Field("INFO", description="The least important lines that are written.")
    format: Annotated[Literal["json", "console"], AnyCase] = Field(
        "json", description="One JSON object per line, or text for people."
    )


class Settings(BaseSettings):
    """The whole configuration, checked. Made by `config.settings.load_settings` only.

    Attributes:
        origins: for every variable where its value came from: `environment`, `.env`, `file` or `default`.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=False
    )

    prefix: ClassVar[str] = ""
    title: ClassVar[str] = "Redis and the broker"

    kinetic: KineticSettings
    redis_url: RedisUrl = Field(
        SecretStr("redis://localhost:6379/0"),
        description="Where the ledger lives. It must not evict, and should write every change to disk.",
    )
    broker_url: BrokerUrl = Field(
        SecretStr(""), description="Where Celery's messages go. Not set: the same as `REDIS_URL`."
    )
    ledger: LedgerSettings
    discovery: DiscoverySettings
    retry: RetrySettings
    breaker: BreakerSettings
    budget: BudgetSettings
    submit: SubmitSettings
    watch: WatchSettings
    resolve: ResolveSettings
    worker: WorkerSettings
    serve: ServeSettings
    metrics: MetricsSettings
    tracing: TracingSettings
    alert: AlertSettings
    log: LogSettings

    origins: Mapping[str, str] = Field(default_factory=dict, repr=False)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from `load_settings` alone.

        The stock sources cannot say where a value came from, and pass over misspelt names and broken
        lines in silence.
        """
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @property
    def policy(self) -> Policy:
        """The policy of every workflow that no entry of the policy file is for."""
        limits = WorkflowLimits(
            self.budget.workflow_share, self.budget.workflow_floor, self.retry.workflow_in_flight
        )
        return self.retry.policy(self.breaker.rule, limits)

    @property
    def policies(self) -> PolicyBook:
        """The default policy and the entries of the policy file, in their order."""
        return PolicyBook(self.policy, self.retry.entries)

    @property
    def limits(self) -> Limits:
        """The limits of all workflows together."""
        budget = self.budget
        return Limits(
            share=budget.share,
            floor=budget.floor,
            window=budget.window,
            pace=budget.pace,
            pace_floor=budget.pace_floor,
            in_flight=self.retry.in_flight,
        )

    @property
    def alert_rules(self) -> AlertRules:
        """What is said to people, and when."""
        from worker.domain.alerts import Rules as AlertRules

        unread_after = max(self.alert.gate_after, 5 * self.discovery.interval)
        return AlertRules(
            window=self.alert.window,
            repeat=self.alert.repeat,
            gate_after=self.alert.gate_after,
            tick_after=self.alert.tick_after,
            unread_after=None if self.discovery.mode == "track" else unread_after,
            link=self.alert.link,
            name=self.ledger.namespace,
        )

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret text in here, for the log's last line of defence."""
        urls = (self.redis_url.get_secret_value(), self.broker_url.get_secret_value())
        found = {
            self.kinetic.api_key.get_secret_value(),
            *(part for url in urls for part in url_secrets(url)),
            *alert_secrets(self.alert.urls.get_secret_value()),
        }
        return tuple(sorted(found - {""}))
