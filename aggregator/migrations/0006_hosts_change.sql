-- Labels that an operator gave a host here, as a JSON object.
ALTER TABLE host ADD COLUMN operator_labels TEXT NOT NULL DEFAULT '{}';

-- Numbers of series that were forgotten still stand in rows of own_log: they are never given again.
CREATE TABLE own_series_numbered (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    labels BLOB NOT NULL UNIQUE
);
INSERT INTO own_series_numbered SELECT id, labels FROM own_series;
DROP TABLE own_series;
ALTER TABLE own_series_numbered RENAME TO own_series;
