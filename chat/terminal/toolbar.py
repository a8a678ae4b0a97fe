"""What the prompt shows: the label before the cursor, and the line at the bottom."""

from __future__ import annotations

from collections.abc import Callable

from prompt_toolkit.formatted_text import StyleAndTextTuples

from chat.session.usage import output_rate
from chat.terminal.display import Mode
from chat.terminal.session import TerminalSession

__all__ = ["Toolbar", "gauge"]

WARN_SHARE, ALARM_SHARE = 0.75, 0.9
GAUGE_CELLS = 6
MAX_QUEUED_CHARACTERS = 30


def gauge(share: float) -> str:
    """Return a bar.

    >>> gauge(0.5)
    '▓▓▓░░░'
    """
    filled = min(max(round(share * GAUGE_CELLS), 0), GAUGE_CELLS)
    return "▓" * filled + "░" * (GAUGE_CELLS - filled)


class Toolbar:
    """Shows the state of a session. While the model loads it tells the stage and the seconds.

    Args:
        session: what to show.
        mode: whether labels are wanted.
    """

    def __init__(self, session: TerminalSession, mode: Mode) -> None:
        self._session = session
        self._mode = mode

    def label(self) -> str:
        """Return what stands before the cursor."""
        if self._mode.labels:
            return self._session.texts("label.you")
        if self._session.editing is not None:
            return f"{self._session.editing.number} ✎ "
        return "> "

    def is_loading(self) -> bool:
        """Tell whether the toolbar changes by itself."""
        return self._session.is_loading()

    def shown(self) -> None:
        """The prompt is on the screen: now there is time to open the store, and to start the tools."""
        self._session.opening.begin()
        self._session.toolbox.begin()

    def must_leave(self) -> bool:
        """Tell whether there is something to do that cannot wait for Enter."""
        session = self._session
        return bool(session.has_news() or (session.queue and not session.is_loading()))

    def counter(self, text: str) -> Callable[[], None] | None:
        """Return what counts the tokens of the line being typed."""
        return self._session.line_counter(text)

    def toolbar(self) -> StyleAndTextTuples:
        """Return the line at the bottom."""
        session, texts = self._session, self._session.texts
        parts: list[tuple[str, str]] = [("class:dim", session.model_name)]
        if stage := session.loading_text():
            parts.append(("class:warn", stage))
        else:
            parts.append(self._context())
            if session.usages and (rate := output_rate(session.usages[-1])) is not None:
                parts.append(("class:dim", texts("figures.rate", rate=rate)))
        if "temperature" in session.sampling:
            parts.append(("class:dim", f"T {session.sampling['temperature']:g}"))
        if session.can_think:
            parts.append(("class:dim", texts("bar.think", mode=session.thinking_mode)))
        if num_tools := len(session.toolbox.tools()):
            parts.append(("class:dim", texts("bar.tools", n=num_tools)))
        if session.attachments:
            parts.append(("class:dim", texts("bar.attached", n=len(session.attachments))))
        if session.talk.is_private:
            parts.append(("class:dim", texts("bar.private")))
        for text in session.queue:
            line = text.strip().splitlines()[0]
            short = line[:MAX_QUEUED_CHARACTERS] + ("…" if line != text or len(line) > MAX_QUEUED_CHARACTERS else "")
            parts.append(("class:warn", texts("queued", text=short)))
        return _joined(parts)

    def _context(self) -> tuple[str, str]:
        """Return the gauge: tokens of the conversation and of the line being typed, of all that fit the window."""
        session, texts = self._session, self._session.texts
        used, total = session.num_context_tokens(), session.max_model_len
        if not total:
            return "class:dim", ""
        share = used / total
        style = "class:alarm" if share >= ALARM_SHARE else "class:warn" if share >= WARN_SHARE else "class:dim"
        if used > total:
            return style, texts("bar.too_long", used=f"{used:,}", all=f"{total:,}")
        text = texts("bar.context", used=f"{used:,}", all=f"{total:,}")
        return style, f"{text} {gauge(share)} {share:.0%}"


def _joined(parts: list[tuple[str, str]]) -> StyleAndTextTuples:
    joined: StyleAndTextTuples = []
    for style, text in parts:
        if text:
            joined += [("class:dim", " │ " if joined else " "), (style, text)]
    return joined
