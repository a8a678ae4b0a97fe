"""The pages that are open: one session for each, found again at every event, and what becomes of what is done there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from chat.session.texts import LANGUAGES, Language, find_language
from chat.web.session import PageSession, Person
from chat.web.texts import Texts
from chat.web.users import People
from chatcore.errors import ChatError

if TYPE_CHECKING:
    from chat.config import Settings

__all__ = ["Pages", "act", "choose_language", "do"]

MAX_PAGES = 2000  # whose going was never noticed; the oldest is forgotten then
MAX_FIELD_CHARACTERS = 1000

Fields = Mapping[str, str]

# What the buttons in the page's own HTML do, by their data-action.
ACTIONS: dict[str, Callable[[PageSession, Fields], None]] = {
    "new": lambda session, fields: session.begin_new(),
    "open": lambda session, fields: session.open(fields["id"]),
    "rename": lambda session, fields: session.rename(fields["text"]),
    "delete": lambda session, fields: session.delete(fields["id"]),
    "edit": lambda session, fields: session.edit(fields["id"]),
    "cancel-edit": lambda session, fields: session.cancel_edit(),
    "retry": lambda session, fields: session.answer_again(fields["id"]),
    "continue": lambda session, fields: session.go_on(),
    "undo": lambda session, fields: session.undo(),
    "redo": lambda session, fields: session.redo(),
    "variant": lambda session, fields: session.show_variant(fields["id"]),
    "earlier": lambda session, fields: session.show_earlier(),
    "detach": lambda session, fields: session.detach(int(fields["id"]) if fields["id"].isdecimal() else -1),
    "reload": lambda session, fields: session.backend.reload(),
}


class Pages:
    """Sessions by the person and the page's own number.

    Args:
        people: who may be here.
        settings: what every page begins with.
    """

    def __init__(self, people: People, settings: Settings) -> None:
        self.people = people
        self.settings = settings
        self._sessions: dict[tuple[str, str], PageSession] = {}
        self._lock = threading.Lock()

    def session(self, person_id: str | None, page_id: str) -> PageSession:
        """Return the session of a page; a new one at its first event.

        Raises:
            ChatError: the login is no longer good.
        """
        person = self.people.by_id(person_id)
        if person is None:
            raise ChatError("you are no longer logged in", hint="Load the page again.")
        with self._lock:
            session = self._sessions.get((person.id, page_id))
            if session is None:
                session = self._sessions[person.id, page_id] = self._begin(person)
            while len(self._sessions) > MAX_PAGES:
                self._sessions.pop(next(iter(self._sessions))).leave()
        return session

    def _begin(self, person: Person) -> PageSession:
        return PageSession(person, self.settings, Texts(self.settings.language or find_language()))

    def leave(self, person_id: str | None, page_id: str) -> None:
        """The page is gone: what it asked the model for is ended, and its session forgotten."""
        with self._lock:
            session = self._sessions.pop((person_id or "", page_id), None)
        if session is not None:
            session.leave()

    def writer_of(self, session: PageSession) -> PageSession | None:
        """Return another page of the same person that has the same conversation answered at this moment."""
        with self._lock:
            others = list(self._sessions.values())
        for other in others:
            same = other.person.id == session.person.id and other.talk.conversation.id == session.talk.conversation.id
            if same and other is not session and other.is_answering:
                return other
        return None


def do(session: PageSession, action: Callable[[PageSession], Any]) -> None:
    """Do something on a page; what goes wrong is told there."""
    with session.lock:
        try:
            action(session)
        except ChatError as error:
            session.tell(error)


def act(session: PageSession, data: Mapping[str, Any]) -> None:
    """Do what a button of the page's own HTML says. Anything may come from a browser: what is unknown does nothing."""
    action = ACTIONS.get(str(data.get("action")))
    fields = {name: str(data.get(name) or "")[:MAX_FIELD_CHARACTERS] for name in ("id", "text")}
    if action is not None:
        do(session, lambda session: action(session, fields))


def choose_language(settings: Settings, wanted: str) -> Language:
    """Return the language of a page: what the settings say, else what the browser wants.

    >>> from chat.config import Settings
    >>> choose_language(Settings(), "zh-CN"), choose_language(Settings(), "fr")
    ('zh', 'en')
    """
    if settings.language:
        return settings.language
    return next((language for language in LANGUAGES if wanted.lower().startswith(language)), "en")
