import pytest
from notes.store import Notes


def test_notes_have_numbers() -> None:
    notes = Notes()
    assert [notes.add(" one "), notes.add("two")] == [1, 2]
    assert notes.all() == ["one", "two"]


def test_an_empty_note_is_refused() -> None:
    with pytest.raises(ValueError, match="text"):
        Notes().add("  ")
