"""What a person reads of an error: a sentence, however much was met."""

from __future__ import annotations

from chatcore.errors import MAX_MESSAGE, ConfigError, describe


def test_a_message_that_quotes_a_whole_file_is_cut():
    said = describe(ConfigError("x" * 100_000, hint="Write less."))
    assert len(said) < MAX_MESSAGE + 100
    assert said.endswith("…\nhint: Write less.")
