"""Split lists into pages, as Twilio's 2010 API does."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode

from keybrake.testing.fake_twilio.outcome import Ask, Outcome

Item = dict[str, Any]


def listing(
    prefixes: tuple[str, ...], key: str, filters: Mapping[str, str]
) -> Callable[[Ask], Outcome]:
    """
    Return an endpoint that lists objects, newest first.

    Args:
        prefixes: The prefixes of the ids of the listed objects.
        key: The name of the list in the answer.
        filters: A mapping from a parameter to the field that has to equal it.
    """

    def answer(ask: Ask) -> Outcome:
        found = [item for prefix in prefixes for item in ask.store.every(prefix)]
        found.sort(key=lambda item: item["sid"][2:], reverse=True)
        wanted = [item for item in found if _fits(ask, item, filters)]
        size = min(max(int(ask.text("PageSize", "50")), 1), 1000)
        page = int(ask.text("Page", "0"))
        return Outcome(
            {
                key: wanted[page * size : (page + 1) * size],
                **_page_fields(ask, page, size, len(wanted)),
            }
        )

    return answer


def _fits(ask: Ask, item: Item, filters: Mapping[str, str]) -> bool:
    same = all(
        ask.params[name] == item[field] for name, field in filters.items() if name in ask.params
    )
    return same and _fits_date(ask, item)


def _fits_date(ask: Ask, item: Item) -> bool:
    """Return whether an object's date fits ``DateSent``, ``DateSent<`` and ``DateSent>``."""
    compared: Mapping[str, Callable[[datetime, datetime], bool]] = {
        "DateSent": lambda sent, asked: sent.date() == asked.date(),
        "DateSent<": lambda sent, asked: sent <= asked,
        "DateSent>": lambda sent, asked: sent >= asked,
    }
    for name, fits in compared.items():
        if name in ask.params:
            sent = parsedate_to_datetime(item.get("date_sent") or item["date_created"])
            asked = datetime.fromisoformat(ask.text(name))
            asked = asked if asked.tzinfo else asked.replace(tzinfo=UTC)
            if not fits(sent, asked):
                return False
    return True


def _page_fields(ask: Ask, page: int, size: int, total: int) -> dict[str, Any]:
    def uri(number: int) -> str:
        query = {**ask.params, "PageSize": size, "Page": number, "PageToken": f"PT{number}"}
        return f"{ask.path}?{urlencode(query, doseq=True)}"

    more = (page + 1) * size < total
    return {
        "page": page,
        "page_size": size,
        "start": page * size,
        "end": min((page + 1) * size, total) - 1,
        "uri": uri(page),
        "first_page_uri": uri(0),
        "next_page_uri": uri(page + 1) if more else None,
        "previous_page_uri": uri(page - 1) if page else None,
    }
