"""`check`, the doctor: everything the worker depends on, a line each, with the cure for what is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import click

from config.redaction import Redactor
from config.settings import Settings, SettingsError, load_settings
from worker.cli.check_redis import redis_findings
from worker.cli.errors import NO, WRONG
from worker.cli.finding import MOST_SKEW, Finding
from worker.cli.output import console, echo_json, name, rough
from worker.domain.executions import Status
from worker.kinetic import KineticClient, KineticError, NotFound, Page
from worker.ledger.clock import ServerClock
from worker.runtime import endpoint, list_contract

NO_SUCH_EXECUTION = "00000000-0000-0000-0000-000000000000"
"""The nil UUID: well-formed, so that a server that checks the form still has to look for it."""
MARKS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "wrong": "[red]✗[/]"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print an array of findings.")
def check(as_json: bool) -> int:
    """Examine settings, Redis, broker and the Kinetic API. Reads only: no retry is sent, nothing is written.

    ✓ is fine, ! is a risk that is named, ✗ keeps the worker from working. Exit code 1 with any ✗.

    \b
    Example: kinetic-retry check
    """
    try:
        config = load_settings()
    except SettingsError as error:
        findings = [Finding("wrong", problem.variable, str(problem)) for problem in error.problems]
        _show(findings, as_json=as_json)
        return WRONG
    findings = asyncio.run(_examine(config))
    _show(findings, as_json=as_json)
    return NO if any(finding.verdict == "wrong" for finding in findings) else 0


async def _examine(config: Settings) -> list[Finding]:
    findings = [Finding("ok", "settings", "valid")]
    findings += await redis_findings(config)
    findings += await asyncio.to_thread(lambda: list(_broker(config)))
    clock = ServerClock()
    client = KineticClient(endpoint(config), list_contract(config), now=clock.now)
    try:
        findings += await (_key(client) if config.discovery.mode == "track" else _list(client, config))
        findings += _skew(client)
    finally:
        await client.aclose()
    return findings


def _broker(config: Settings) -> Iterable[Finding]:
    if config.origins["CELERY_BROKER_URL"] == "default":
        yield Finding("ok", "broker", "the same server as REDIS_URL")
        return
    from worker.celery_app import make_app

    try:
        with make_app(config).connection_for_write(connect_timeout=5) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=5)
            facts = getattr(connection.connection, "server_properties", {})  # what speaks AMQP tells them
        product = " ".join(str(facts[each]) for each in ("product", "version") if facts.get(each))
        yield Finding("ok", "broker", f"{product} answers" if product else "answers")
    except Exception as exc:  # noqa: BLE001  # kombu raises whatever its transport does
        words = Redactor(config.secrets).text(str(exc))
        cure = "check CELERY_BROKER_URL and that the broker is up"
        yield Finding("wrong", "broker", f"{type(exc).__name__} {words}".strip(), cure)


async def _key(client: KineticClient) -> list[Finding]:
    """Ask for an execution that cannot exist: a 404 shows that the key was accepted."""
    try:
        await client.get(NO_SUCH_EXECUTION)
    except NotFound:
        return [
            Finding("ok", "api", "reachable, and the key is accepted (DISCOVERY_MODE=track: no list is used)")
        ]
    except KineticError as error:
        return [_api_trouble(error)]
    return [Finding("warning", "api", "it knows an execution that cannot exist", "check KINETIC_BASE_URL")]


async def _list(client: KineticClient, config: Settings) -> list[Finding]:
    try:
        failed = await _pages(client, Status.FAILED)
        everything = await _pages(client, None)
    except KineticError as error:
        return [_api_trouble(error)]
    findings = [Finding("ok", "api", "reachable, and the key is accepted")]
    findings += [_contents(failed, everything), _filter(failed, config), *_order(everything, config)]
    findings += _paging(everything, config)
    return findings


async def _pages(client: KineticClient, status: Status | None) -> list[Page]:
    pages = []
    async for page in client.pages(status=status):
        pages.append(page)
        if len(pages) == 2:  # noqa: PLR2004  # enough to see whether paging works
            break
    return pages


def _contents(failed: list[Page], everything: list[Page]) -> Finding:
    page = everything[0]
    statuses = sorted({execution.status.value for each in everything for execution in each.executions})
    found = f"{page.received} executions on the first page ({', '.join(statuses) or 'none'})"
    found += f", {len(failed[0].executions)} failed"
    if page.unreadable:
        cure = "items without their two uuids are skipped: check KINETIC_LIST_ITEMS_FIELD"
        return Finding("warning", "list", f"{found}; {page.unreadable} cannot be read", cure)
    return Finding("ok", "list", found)


def _filter(failed: list[Page], config: Settings) -> Finding:
    others = sum(page.received - page.unreadable - len(page.executions) for page in failed)
    if not others:
        return Finding(
            "ok", "list filter", "only failed executions came when asked for them, as far as there are any"
        )
    parameter = config.kinetic.listing.status_param or "(none)"
    cure = (
        f"the worker filters by itself, at the price of more pages; KINETIC_LIST_STATUS_PARAM is {parameter}"
    )
    return Finding("warning", "list filter", f"{others} others came when failed ones were asked for", cure)


def _order(everything: list[Page], config: Settings) -> Iterable[Finding]:
    dates = [each.created_at for page in everything for each in page.executions if each.created_at]
    if len(set(dates)) < 2:  # noqa: PLR2004  # nothing to compare
        yield Finding("warning", "list order", "too few dated executions to tell", "run this again later")
        return
    seen = "desc" if dates == sorted(dates, reverse=True) else "asc" if dates == sorted(dates) else "unknown"
    words = {"desc": "newest first", "asc": "oldest first", "unknown": "neither newest nor oldest first"}
    if seen == config.kinetic.listing.order:
        yield Finding("ok", "list order", words[seen])
    elif config.kinetic.listing.order == "unknown":
        cure = (
            "if it is always so, KINETIC_LIST_ORDER=desc makes reading it cheaper" if seen == "desc" else ""
        )
        yield Finding("ok", "list order", f"{words[seen]} this time, none is relied on", cure)
    else:
        cure = f"set KINETIC_LIST_ORDER={seen}, or failures far down the list are found late"
        yield Finding("wrong", "list order", words[seen], cure)


def _paging(everything: list[Page], config: Settings) -> Iterable[Finding]:
    about, way = "list paging", config.kinetic.listing.pagination
    first, second = ({each.uuid for each in page.executions} for page in [*everything, everything[0]][:2])
    if len(everything) == 1 and everything[0].received < config.kinetic.listing.page_size:
        return  # all of it fits on one page: nothing to see
    if len(everything) > 1 and (second - first or not everything[1].received):
        yield Finding("ok", about, f"by {way}: the second page brought {len(second - first)} others")
    else:
        cure = "check KINETIC_LIST_PAGINATION and the parameter names: one page may be all that is seen"
        yield Finding("warning", about, f"by {way}: a full page, and nothing new behind it", cure)


def _skew(client: KineticClient) -> Iterable[Finding]:
    off = abs(client.skew)
    if off < MOST_SKEW:
        yield Finding("ok", "api clock", f"{rough(off)} from ours" if off else "agrees with ours")
    else:
        cure = "the worker allows for it by the Date header; run NTP on whichever is wrong"
        yield Finding("warning", "api clock", f"{rough(off)} from ours", cure)


def _api_trouble(error: KineticError) -> Finding:
    cure = {401: "check KINETIC_API_KEY", 403: "check what KINETIC_API_KEY may do"}.get(
        error.http_status or 0
    )
    if isinstance(error, NotFound):
        cure = "check KINETIC_BASE_URL and KINETIC_LIST_PATH; without a list: DISCOVERY_MODE=track"
    return Finding("wrong", "api", str(error), cure or "check KINETIC_BASE_URL")


def _show(findings: list[Finding], *, as_json: bool) -> None:
    if as_json:
        fields = ("verdict", "about", "found", "cure")
        echo_json([{each: getattr(finding, each) for each in fields} for finding in findings])
        return
    screen: Any = console()
    for finding in findings:
        cure = f"\n  [dim]→ {name(finding.cure, 300)}[/]" if finding.cure else ""
        screen.print(f"{MARKS[finding.verdict]} {name(finding.about):<14} {name(finding.found, 400)}{cure}")
