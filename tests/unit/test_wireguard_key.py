"""The key pair of a node's encrypted tunnels."""

from __future__ import annotations

import shutil
import subprocess
from base64 import b64encode
from pathlib import Path

import pytest

from vini.model import ViniError
from vini.node import wireguard_key


def test_it_is_made_once_for_root_only(tmp_path: Path) -> None:
    key = wireguard_key.private(tmp_path / "state")
    assert wireguard_key.private(tmp_path / "state") == key
    assert (tmp_path / "state/wireguard.key").stat().st_mode & 0o777 == 0o600
    assert wireguard_key.private(tmp_path / "other") != key


@pytest.mark.skipif(shutil.which("wg") is None, reason="needs wg (`apt-get install wireguard-tools`)")
def test_the_public_half_is_what_wg_makes_of_it(tmp_path: Path) -> None:
    key = wireguard_key.private(tmp_path)
    told = subprocess.run(["wg", "pubkey"], input=b64encode(key), capture_output=True, check=True).stdout.decode()
    assert wireguard_key.public(key) == told.strip()


def test_one_that_is_spoilt_is_told_of_and_not_replaced(tmp_path: Path) -> None:
    wireguard_key.private(tmp_path)
    (tmp_path / "wireguard.key").write_bytes(b"short")
    with pytest.raises(ViniError, match="spoilt; remove it"):
        wireguard_key.private(tmp_path)
    assert (tmp_path / "wireguard.key").read_bytes() == b"short"


def test_where_it_can_not_be_written_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ViniError, match="can't be read|can't be written"):
        wireguard_key.private(tmp_path / "file")
