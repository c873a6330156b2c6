"""Files that a file names: what can't be read is told as what it is."""

from pathlib import Path

import pytest

from vini.nearby import reader
from vini.text.mistakes import Wrong


@pytest.mark.parametrize(("name", "said"), [("/dev/zero", "it is no regular file"), ("gone", "there is no such file")])
def test_what_cannot_be_read_is_told_as_what_it_is(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(Wrong, match=f"can't be read: {said}"):
        reader(tmp_path)(name)
