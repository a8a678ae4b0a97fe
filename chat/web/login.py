"""The page that asks for a key. It needs no script."""

from __future__ import annotations

from chat.web.markup import escape
from chat.web.texts import Texts

__all__ = ["login_page"]

STYLE = """
:root { color-scheme: light dark; }
body { font-family: system-ui, sans-serif; display: grid; place-items: center; min-height: 100dvh; margin: 0;
  background: light-dark(#f8fafc, #0f172a); color: light-dark(#0f172a, #e2e8f0); }
form { width: min(20rem, 90vw); display: grid; gap: .75rem; padding: 2rem; border-radius: 14px;
  background: light-dark(#fff, #1e293b); border: 1px solid light-dark(#e2e8f0, #334155); }
h1 { font-size: 1.25rem; margin: 0; }
p { margin: 0; font-size: .9rem; }
label { display: grid; gap: .3rem; font-weight: 600; }
input { font: inherit; padding: .55rem .7rem; border-radius: 8px; border: 1px solid light-dark(#94a3b8, #64748b);
  background: light-dark(#fff, #0f172a); color: inherit; }
button { font: inherit; font-weight: 600; padding: .6rem; border: 0; border-radius: 8px; color: #fff;
  background: #4f46e5; }
[role=alert] { color: light-dark(#b91c1c, #fca5a5); }
"""


def login_page(texts: Texts, problem: str = "") -> str:
    """Return the page; ``problem`` says why the last key did not do."""
    alert = f'<p role="alert">{escape(problem)}</p>' if problem else ""
    return (
        f'<!doctype html><html lang="{texts.language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(texts('login'))} · vllm-deploy</title><style>{STYLE}</style></head><body><main>"
        f'<form method="post" action="login"><h1>vllm-deploy</h1><p>{escape(texts("login.hint"))}</p>{alert}'
        f"<label>{escape(texts('login.key'))}"
        '<input name="key" type="password" autocomplete="current-password" autofocus>'
        f'</label><button type="submit">{escape(texts("login"))}</button></form></main></body></html>'
    )
