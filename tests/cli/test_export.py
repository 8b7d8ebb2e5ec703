"""Does ``keybrake export`` give other programs the whole call log, and harm no spreadsheet."""

import csv
import io

import pytest

HEADER = (
    "seq,at,run_id,label,tool,vendor,endpoint,method,path,state,reason,reserved_micros,cost_micros,"
    "amount,currency,object_id,http_status,duration_ms,would_refuse"
)


def test_csv_has_every_call(cli, books):
    """CSV is the default: a header and one record a call, whatever is in its label."""
    told = cli("--ledger", books.url, "export")

    rows = list(csv.reader(io.StringIO(told.out, newline="")))
    assert ",".join(rows[0]) == HEADER
    assert [row[0] for row in rows[1:]] == [str(n) for n in range(1, 14)]
    assert {len(row) for row in rows} == {19}
    assert cli("--ledger", books.url, "export", "--csv").out == told.out


def test_no_cell_is_a_formula(cli, books):
    """No cell begins with what a spreadsheet runs, and none holds a control character."""
    out = cli("--ledger", books.url, "export", "--csv").out

    cells = [cell for row in csv.reader(io.StringIO(out, newline="")) for cell in row]
    assert '\'=HYPERLINK("http://x","y")' in cells
    assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))] == []
    assert all(cell.isprintable() for cell in cells)


def test_json_lines_are_those_of_the_log(cli, books):
    """JSON lines are exactly what ``keybrake log --json`` prints."""
    told = cli("--ledger", books.url, "export", "--jsonl")

    assert told.out == cli("--ledger", books.url, "log", "--json").out
    assert told.json_lines[7]["label"] == books.hostile[0]


def test_one_run(quick, books):
    """With --run only that run's calls are exported."""
    rows = quick("--ledger", books.url, "export", "--jsonl", "--run", "child-agent").json_lines

    assert [row["run_id"] for row in rows] == [books.ids["child"]]


def test_a_file_is_whole_and_private(cli, tmp_path, books):
    """The file holds what standard output would, is its owner's alone, and is the only one."""
    told = cli("--ledger", books.url, "export", "--jsonl", "--output", "calls.jsonl")

    file = tmp_path / "calls.jsonl"
    assert (told.code, told.out, told.err) == (0, "", "wrote calls.jsonl\n")
    assert file.read_text() == cli("--ledger", books.url, "export", "--jsonl").out
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_is_there_is_kept(cli, tmp_path, books):
    """Nothing is overwritten without --force."""
    file = tmp_path / "calls.csv"
    file.write_text("mine")
    export = ("--ledger", books.url, "export", "--output", "calls.csv")

    told = cli(*export)

    assert told.code == 1
    assert "--force" in told.err
    assert file.read_text() == "mine"

    assert cli(*export, "--force").code == 0
    assert file.read_text().startswith(HEADER)


@pytest.mark.parametrize("where", ["missing/calls.csv", "link.csv", "."])
def test_a_place_that_cannot_be_written_is_one_line(quick, tmp_path, books, where):
    """A missing folder, a link and a folder are refused, and nothing is left behind."""
    (tmp_path / "link.csv").symlink_to("elsewhere.csv")

    told = quick("--ledger", books.url, "export", "--output", where, "--force")

    assert told.code in (1, 2)
    assert told.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["link.csv"]


def test_what_fails_half_way_leaves_nothing(cli, tmp_path, books):
    """An export of a ledger whose last pages are damaged fails without leaving a file."""
    damaged = tmp_path / "damaged.db"
    data = bytearray(books.path.read_bytes())
    for page in range(len(data) // 2048):
        if b"/v1/payment_intents" in data[page * 2048 : page * 2048 + 2048]:
            data[page * 2048 : page * 2048 + 2048] = b"\xff" * 2048
    damaged.write_bytes(data)

    told = cli("--ledger", f"sqlite:///{damaged}", "export", "--output", "calls.csv")

    assert told.code == 1
    assert told.err.count("\n") == 1
    assert not list(tmp_path.glob("*calls*"))
