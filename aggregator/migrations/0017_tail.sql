-- What was appended to both logs last, as one record a commit, in bytes that are written over in place: no page is added for
-- it. Rows of the logs are made of it where it has no room. There is one row, which the program makes.
CREATE TABLE tail (
    id INTEGER PRIMARY KEY,
    records BLOB NOT NULL
);
