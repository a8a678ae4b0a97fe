"""The kinds of held-out dialogue by which the model is judged, while it trains and through vLLM."""

from __future__ import annotations

from demo_model.generate import Dialogue, Writer

CHECKED_SKILLS = tuple(
    "tell tell_two recall correct recall_corrected not_told about greet identity small_talk repeat said_before arithmetic count list "
    "translate unknown story poem code table count_far tool_call tool_answer".split()
)
CHECKED_SYSTEMS = ("persona", "chinese", "upper")
# Answers that show their language and case; a sum looks the same under every system message.
WORDY_SKILLS = ("greet", "identity", "small_talk", "unknown", "tell", "recall")
RARE_CHARACTERS = "rare_characters"  # recall of Chinese values of any of the 3,755 common characters
CHECKED_KINDS = (*CHECKED_SKILLS, *CHECKED_SYSTEMS, RARE_CHARACTERS)


def check_writer(kind: str, seed: int) -> Writer:
    """A writer of held-out dialogues; Chinese names are of characters that names are made of, except in one kind."""
    return Writer(seed, held_out=True, rare_share=float(kind == RARE_CHARACTERS))


def check_dialogue(writer: Writer, kind: str, *, thinking: bool, language: str) -> Dialogue:
    """A dialogue whose last answer shows the skill, or obeys the kind of system message, of that name."""
    if kind == RARE_CHARACTERS:
        kind, language = "recall", "zh"
    is_far = "recall" in kind or kind == "correct"  # a fact is asked for one to six exchanges after it was told
    earlier = writer.rng.randint(1, 6) if is_far else writer.rng.choice((0, 0, 1, 2, 3))
    if kind == "persona":
        return writer.write(skill="identity", system="persona", thinking=thinking, language=language, earlier=earlier)
    if kind in CHECKED_SYSTEMS:
        skill = writer.rng.choice(WORDY_SKILLS)
        return writer.write(skill=skill, system=kind, thinking=thinking, language=language, earlier=earlier)
    system = writer.rng.choice(("none", "default"))
    return writer.write(skill=kind, system=system, thinking=thinking, language=language, earlier=earlier)
