"""A class list: what is read, and all that may be wrong with it at once."""

from __future__ import annotations

import pytest

from vini.cli import roster
from vini.cli.roster import Entry
from vini.model import TopologyError


def test_the_first_line_names_the_columns_in_any_order_and_empty_lines_are_none() -> None:
    text = 'Slice,EMAIL,name\r\nuni_lab1,Bob@Uni.Example,"Brown, Bob"\r\n,,\r\n\r\n,eve@uni.example\r\n'
    assert roster.read(text, "class.csv", "uni") == [
        Entry(2, "bob@uni.example", "Brown, Bob", "", "uni_lab1"),
        Entry(5, "eve@uni.example"),
    ]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_spreadsheet_of_any_country_writes_it(mark: str) -> None:
    text = f'email{mark}password\nbob@uni.example{mark}"horse, battery; staple"\n'
    assert roster.read(text, "class.csv", "uni") == [Entry(2, "bob@uni.example", "", "horse, battery; staple")]


def test_all_mistakes_come_at_once_with_line_and_cell() -> None:
    text = (
        "email,name,password,slice\n"
        "bob,Bob,,uni_lab1\n"
        "eve@uni.example,Eve,short,mit_lab1\n"
        "ann@uni.example,Ann,,Uni_Lab\n"
        "EVE@uni.example,Eve,,,more\n"
        f"long@uni.example,{'x' * 255},,uni_{'y' * 37}\n"
    )
    with pytest.raises(TopologyError) as e:
        roster.read(text, "class.csv", "uni")
    assert [(m.line, m.column) for m in e.value.mistakes] == [
        (2, 1), (3, 3), (3, 4), (4, 4), (5, 1), (5, 5), (6, 2), (6, 4),
    ]  # fmt: skip
    told = str(e.value).splitlines()
    assert told[0].startswith("class.csv: line 2, column 1: 'bob' is not good here: An e-mail address looks like")
    assert "10 to 256 letters" in told[1] and "would begin with uni_" in told[2] and "small letters" in told[3]
    assert "eve@uni.example is in line 3 already" in told[4] and "5 cells, the first 4" in told[5]
    assert "A name here has 254 letters at most; this one has 255." in told[6] and "has 40 letters at most" in told[7]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "The first line names the columns"),
        ("bob@uni.example,uni_lab1\n", "such as: email,name,password,slice"),
        ("email,naem\nbob@uni.example,Bob\n", "There is no column 'naem'. (did you mean 'name'?)"),
        ("email,email\nbob@uni.example,bob@uni.example\n", "There are two columns 'email'"),
        ("email,name\n", "Nobody is in it"),
        ('email,name\nbob@uni.example,"' + "x" * 200_000 + '"\n', "This is no line of a CSV file"),
    ],
)
def test_what_is_no_such_list_is_told(text: str, sentence: str) -> None:
    with pytest.raises(TopologyError) as e:
        roster.read(text, "class.csv", "uni")
    assert sentence in str(e.value)
