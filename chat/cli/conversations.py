"""What ``conversations`` does: list, show, search, export, import, delete. Results go to standard output."""

from __future__ import annotations

import argparse
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from chat.cli.options import add_server_options
from chat.conversations import files
from chat.session.setup import open_store, read_settings
from chatcore.errors import ChatError

if TYPE_CHECKING:
    from chat.store.base import Store, Summary

__all__ = ["add_options", "delete", "export", "import_file", "list_conversations", "run", "search", "show"]

DEFAULT_LIMIT, DEFAULT_SEARCH_LIMIT = 20, 1000  # conversations
SHORT_ID = 8  # characters of an id that are shown; any beginning that fits one conversation only will do


def list_conversations(store: Store, *, limit: int) -> None:
    """Print the latest conversations, a line each: id, time, number of messages, title."""
    for summary in store.recent(limit=limit):
        print(_line(summary))


def _line(summary: Summary) -> str:
    when = datetime.fromtimestamp(summary.updated_at_utc).strftime("%Y-%m-%d %H:%M")
    mark = " (unfinished)" if summary.unfinished else ""
    excerpt = f" | {summary.excerpt}" if summary.excerpt else ""
    return f"{summary.id[:SHORT_ID]}  {when}  {summary.num_messages:>4}  {summary.title}{mark}{excerpt}"


def show(store: Store, conversation_id: str) -> None:
    """Print a conversation as Markdown."""
    print(files.to_markdown(store.load(conversation_id)), end="")


def search(store: Store, words: str, *, limit: int) -> None:
    """Print the conversations that have these words, a line each, with an excerpt where the words are in a message."""
    found = store.find_conversations(words, limit=limit + 1)
    for summary in found[:limit]:
        print(_line(summary))
    if len(found) > limit:
        print("There are more conversations with these words; --limit N shows more.", file=sys.stderr)


def export(store: Store, conversation_id: str, file: Path, *, overwrite: bool) -> None:
    """Write a conversation to a file; its ending tells the format."""
    conversation = store.load(conversation_id)
    match file.suffix:
        case ".md":
            text = files.to_markdown(conversation)
        case ".json":
            text = files.to_json(conversation)
        case ".jsonl":
            text = files.to_jsonl([conversation])
        case _:
            raise ChatError(f"{file} has no known ending", hint="Use one of: .md, .json, .jsonl.")
    files.write(file, text, overwrite=overwrite)
    print(file)


def import_file(store: Store, file: Path) -> None:
    """Keep the conversations of a file, all of them or none; print their ids and titles."""
    for kept in store.insert_all(files.read(file)):
        print(f"{kept.id[:SHORT_ID]}  {kept.title}")


def delete(store: Store, conversation_id: str, *, confirmed: bool) -> None:
    """Delete a conversation for ever, after asking."""
    conversation = store.load(conversation_id)
    if not confirmed:
        if not sys.stdin.isatty():
            raise ChatError("nobody is there to confirm the deletion", hint="Say so with --yes.")
        if input(f"Delete {conversation.title!r} for ever? [y/N] ").strip().lower() not in ("y", "yes"):
            return
    store.delete(conversation.id)
    print(f"deleted {conversation.id[:SHORT_ID]}  {conversation.title}")


def add_options(command: argparse.ArgumentParser) -> None:
    """What ``conversations`` takes."""
    actions = command.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    listing = actions.add_parser("list", help="the latest first")
    show = actions.add_parser("show", help="print a conversation")
    search = actions.add_parser("search", help="conversations that have all of these words")
    search.add_argument("words", nargs="+", help="looked for in titles and in single messages")
    for action, limit in ((listing, DEFAULT_LIMIT), (search, DEFAULT_SEARCH_LIMIT)):
        action.add_argument("--limit", type=int, default=limit, metavar="N", help=f"print at most N (default: {limit})")
    export = actions.add_parser("export", help="write a conversation to .md, .json or .jsonl")
    bring = actions.add_parser("import", help="read conversations from .json or .jsonl")
    delete = actions.add_parser("delete", help="delete a conversation for ever")
    for action in (show, export, delete):
        action.add_argument("id", help="an id from the list, or its beginning")
    for action in (listing, show, search, export, bring, delete):
        add_server_options(action, "a server of ours that keeps conversations, instead of this machine")
    export.add_argument("file", type=Path)
    export.add_argument("--overwrite", action="store_true", help="replace an existing file")
    bring.add_argument("file", type=Path)
    delete.add_argument("--yes", action="store_true", help="do not ask")


def run(options: argparse.Namespace) -> int:
    """List, show, search, export, import or delete conversations."""
    store = open_store(read_settings(options), must_be_remote=bool(options.url), must_be_kept=True)
    match options.action:
        case "list":
            list_conversations(store, limit=options.limit)
        case "show":
            show(store, options.id)
        case "search":
            search(store, " ".join(options.words), limit=options.limit)
        case "export":
            export(store, options.id, options.file, overwrite=options.overwrite)
        case "import":
            import_file(store, options.file)
        case "delete":
            delete(store, options.id, confirmed=options.yes)
    return 0
