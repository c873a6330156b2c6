"""What names and texts may look like; said once, for those who check and for the API's description."""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta

LOGIN_BASE = r"^[a-z0-9]{1,20}$"
SLICE = r"^[a-z0-9]{1,20}_[a-z0-9_-]{0,37}[a-z0-9]$"
NODE = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"  # a DNS name (RFC 1123)
PLACE = r"^(site:[a-z0-9]{1,20}|[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)$"  # of a substrate link's end
WORD = r"^[A-Za-z0-9_.-]{1,64}$"
LINE = r"^[^\x00-\x1f\x7f]*$"
TEXT = r"^[^\x00]*$"  # PostgreSQL can't store NUL
EMAIL = r"^[^@\s/?#%\x00-\x1f\x7f]{1,64}@[A-Za-z0-9.-]{1,190}$"  # it is part of URLs, whoever writes them
OLDER_EMAIL = r"^[^@\s\x00-\x1f\x7f]{1,64}@[A-Za-z0-9.-]{1,190}$"  # some that have an account look like this
URL = r"^(https?://[^\s\x00-\x1f\x7f]{1,2000})?$"
FILE_PATH = r"^/[^\x00-\x1f\x7f]{1,1000}$"
SSH_KEY = (
    r"^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-ssh-ed25519@openssh\.com"
    r"|sk-ecdsa-sha2-nistp256@openssh\.com) [A-Za-z0-9+/]{40,4000}={0,3}( [^\x00-\x1f\x7f]{0,255})?$"
)
SAID = {  # what a text should have been that one of these does not fit, as a sentence
    LOGIN_BASE: "A site's name has 1 to 20 small letters and digits: princeton.",
    SLICE: "A slice's name is its site's, '_', and a word in small letters, 40 letters in all at most: princeton_iias.",
    NODE: "A node's name is a DNS name in small letters: n1.princeton.example.",
    PLACE: "An end of a link is a node's name, or site: and a site's: site:princeton.",
    WORD: "A word has 1 to 64 letters, digits, '_', '.' and '-'.",
    LINE: "This is to be one line, without control characters.",
    TEXT: "A text has no NUL character in it.",
    EMAIL: "An e-mail address looks like ada@example.org; '/', '?', '#' and '%' may not be in it.",
    OLDER_EMAIL: "An e-mail address looks like ada@example.org.",
    URL: "A URL begins with https:// or http://.",
    FILE_PATH: "A file's path begins with /, and has no control characters: /etc/vini/conf.d/motd.",
    SSH_KEY: "A public SSH key is one line, such as ~/.ssh/id_ed25519.pub has.",
}
_LENGTH = re.compile(r"`str` of length ([<>]=) (\d+)")  # as msgspec complains
MOST = 2**31 - 1  # of a whole number in the database


def _whole(pattern: str) -> str:
    """Python's "$" lets a newline follow; elsewhere, also in JSON Schema, it doesn't."""
    return pattern + r"(?!\n)"


def should_be(error: str) -> str | None:
    """The sentence about the text in which a checker complains of one of our patterns, or of its length; None: it
    complains of something else."""
    if long := _LENGTH.search(error):
        return f"This is to have {long[2]} letters at {'least' if long[1] == '>=' else 'most'}."
    return next((said for pattern, said in SAID.items() if repr(pattern)[1:-1] in error or pattern in error), None)


LoginBase = Annotated[str, Meta(pattern=_whole(LOGIN_BASE))]
SliceName = Annotated[str, Meta(pattern=_whole(SLICE), max_length=40)]
NodeName = Annotated[str, Meta(pattern=_whole(NODE))]
PlaceName = Annotated[str, Meta(pattern=_whole(PLACE))]
Word = Annotated[str, Meta(pattern=_whole(WORD))]
Line = Annotated[str, Meta(pattern=_whole(LINE), max_length=254)]
Email = Annotated[str, Meta(pattern=_whole(EMAIL))]
OlderEmail = Annotated[str, Meta(pattern=_whole(OLDER_EMAIL))]
Url = Annotated[str, Meta(pattern=_whole(URL))]
Text = Annotated[str, Meta(pattern=_whole(TEXT), max_length=65_536)]
FilePath = Annotated[str, Meta(pattern=_whole(FILE_PATH))]
Password = Annotated[str, Meta(min_length=10, max_length=256)]
SshKey = Annotated[str, Meta(pattern=_whole(SSH_KEY))]
Count = Annotated[int, Meta(ge=0, le=MOST)]
Amount = Annotated[float, Meta(ge=0, le=1e12)]
Latitude = Annotated[float, Meta(ge=-90, le=90)]
Longitude = Annotated[float, Meta(ge=-180, le=180)]
Time = Annotated[float, Meta(ge=0, le=1e11)]  # Unix time, s


def site_of(slice_: str) -> str:
    """The site that a slice's name says it belongs to; "" where it says none."""
    site, line, _ = slice_.partition("_")
    return site if line else ""
