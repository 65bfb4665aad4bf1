"""Whether DuckDB reads of an export as Parquet what the same export says as text: table.py SAMPLES.parquet SAMPLES.om"""

import re
import sys

import duckdb

table, text = sys.argv[1:]
read = {
    (name, frozenset(labels.items()), at, value)
    for name, labels, at, value in duckdb.sql(
        f"SELECT name, labels, epoch_ms(timestamp), value FROM '{table}'"
    ).fetchall()
}
told = set()
for line in open(text, encoding="utf-8"):
    if not line.startswith("#"):
        name, labels, value, seconds = re.fullmatch(r"([^{ ]+)(?:\{(.*)\})? (\S+) (\S+)\n", line).groups()
        labels = frozenset(re.findall(r'(\w+)="([^"\\]*)"', labels or ""))
        told.add((name, labels, round(float(seconds) * 1000), float(value)))
if read != told or not told:
    sys.exit(f"{len(read)} samples in the table, {len(told)} in the text, of the table alone: {sorted(map(str, read - told))[:3]}")
found = duckdb.sql(f"SELECT count(*) FROM '{table}' WHERE name = 'node_load1' AND labels['job'] = 'node'").fetchall()[0][0]
if not found:
    sys.exit("no row is found by a label")
print(f"query: DuckDB {duckdb.__version__} reads {len(read)} samples of a table, as the text has them")
