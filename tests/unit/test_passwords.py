"""What is kept of passwords, and that who has none is not told by the time that an answer takes."""

from __future__ import annotations

import argon2
import pytest

from vini.central import passwords


def test_the_one_that_was_kept_fits_and_no_other() -> None:
    kept = passwords.hashed("correct horse")
    assert passwords.fits(kept, "correct horse")
    assert not passwords.fits(kept, "battery staple")
    assert not passwords.fits("of an older VINI", "correct horse")


def test_who_has_none_is_let_in_by_none_after_as_much_work() -> None:
    """The work is that of the parameters, and it is done: the text is one that argon2 reads to its end."""
    assert not passwords.fits("", "")
    nobodys = passwords._NOBODYS
    assert argon2.extract_parameters(nobodys) == argon2.extract_parameters(passwords.hashed("x"))
    with pytest.raises(argon2.exceptions.VerifyMismatchError):
        passwords._hasher.verify(nobodys, "x")
