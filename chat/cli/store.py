"""The command ``store``: backup, vacuum, expire and info of the store of conversations."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chat.store.local import ConversationStore
    from chat.store.maintenance import StoreInfo

__all__ = ["add_options", "run"]


def add_options(command: argparse.ArgumentParser) -> None:
    """What ``store`` takes."""
    actions = command.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    actions.add_parser("info", help="what the store holds, and whose it is")
    backup = actions.add_parser("backup", help="copy the store's file, while programs go on writing to it")
    backup.add_argument("file", type=Path, help="where the copy goes; name it as store and it is the store")
    backup.add_argument("--overwrite", action="store_true", help="replace an existing file")
    actions.add_parser("vacuum", help="give back the space of what was deleted")
    expire = actions.add_parser("expire", help="delete conversations in which nothing was said for so many days")
    expire.add_argument("days", type=parse_days, help="such as 90")
    expire.add_argument("--owner", default="", help="of this owner only; everybody's if left out")
    expire.add_argument("--yes", action="store_true", help="do not ask")


def run(options: argparse.Namespace) -> int:
    """Open the store that the settings name, and do it."""
    from chat.config import load_settings
    from chat.store.local import ConversationStore

    store = ConversationStore(load_settings().store or None)
    try:
        return _run(store, options)
    finally:
        store.close()


def _run(store: ConversationStore, options: argparse.Namespace) -> int:
    from chat.store import maintenance

    match options.action:
        case "info":
            _show(maintenance.describe_store(store))
        case "backup":
            num_bytes = maintenance.backup(store, Path(os.path.expanduser(options.file)), overwrite=options.overwrite)
            print(f"{options.file}: {num_bytes:,} bytes")
        case "vacuum":
            before, after = maintenance.vacuum(store)
            print(f"{store.name}: {before:,} bytes before, {after:,} now")
        case "expire":
            return _expire(store, options)
    return 0


def _expire(store: ConversationStore, options: argparse.Namespace) -> int:
    whose = f"conversations of {options.owner}" if options.owner else "everybody's conversations"
    if not options.yes:
        print(
            f"Delete for ever {whose} in which nothing was said for {options.days:g} days? [y/N] ", end="", flush=True
        )
        try:
            answer = input()
        except EOFError:
            answer = ""
        if answer.strip().lower() not in ("y", "yes"):
            print("nothing was deleted")
            return 1
    before = time.time() - options.days * 24 * 3600
    print(f"{store.delete_older_than(before, owner=options.owner or None)} deleted")
    return 0


def _show(info: StoreInfo) -> None:
    print(f"{info.name}: {info.num_bytes:,} bytes")
    print(
        f"{info.num_conversations:,} conversations, {info.num_messages:,} messages, "
        f"{info.num_sessions:,} sessions, {info.num_responses:,} responses"
    )
    for line in info.owners:
        last = time.strftime("%Y-%m-%d", time.localtime(line.updated_at_utc))
        print(f"{line.owner:<24} {line.num_conversations:>8,} {line.num_messages:>10,}  {last}")


def parse_days(text: str) -> float:
    """Return a number of days above 0."""
    try:
        days = float(text)
    except ValueError:
        days = 0.0
    if not 0 < days < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is no number of days: write 90")
    return days
