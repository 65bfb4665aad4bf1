//! Samples as a Parquet table: a row each, with the metric's name, the other labels as a map, the stamp and the value.

use std::sync::Arc;

use common::metric::Labels;
use common::metric::NAME;
use common::time::Timestamp;
use parquet::basic::Compression;
use parquet::basic::Encoding;
use parquet::basic::ZstdLevel;
use parquet::column::writer::ColumnWriterImpl;
use parquet::data_type::ByteArray;
use parquet::data_type::ByteArrayType;
use parquet::data_type::DataType;
use parquet::data_type::DoubleType;
use parquet::data_type::Int64Type;
use parquet::errors::ParquetError;
use parquet::file::properties::EnabledStatistics;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::file::writer::SerializedRowGroupWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

use crate::http::prometheus::export::ExportError;
use crate::http::prometheus::export::Format;

/// Rows of one group, which is in memory as a whole: 4 MiB of stamps and values.
const GROUP_ROWS_MAX: usize = 1 << 18;

/// Bytes of the labels of its series: of many that have one sample each, these are the most.
const GROUP_LABEL_BYTES_MAX: usize = 8 << 20;

/// Bytes that a text takes beside its letters, about.
const TEXT_BYTES: usize = 80;

/// Bytes of a dictionary: more than a group can have, since without one each row would have all of its labels written out.
const DICTIONARY_BYTES: usize = 4 * GROUP_LABEL_BYTES_MAX;

/// Labels that are told to a column at once, about.
const BATCH: usize = 1024;

const SCHEMA: &str = "
message sample {
  REQUIRED BYTE_ARRAY name (STRING);
  REQUIRED GROUP labels (MAP) {
    REPEATED GROUP key_value {
      REQUIRED BYTE_ARRAY key (STRING);
      REQUIRED BYTE_ARRAY value (STRING);
    }
  }
  REQUIRED INT64 timestamp (TIMESTAMP(MILLIS,true));
  REQUIRED DOUBLE value;
}";

/// A table that grows by groups of rows, and is taken away by pieces.
pub(super) struct Table {
    file: SerializedFileWriter<Vec<u8>>,
    /// Whose rows the group has, in their order.
    series: Vec<Series>,
    label_bytes: usize,
    stamps: Vec<i64>,
    values: Vec<f64>,
}

struct Series {
    name: ByteArray,
    /// The other labels: names, and what they say.
    labels: [Vec<ByteArray>; 2],
    rows: usize,
}

impl Series {
    /// About what it takes, of which the letters are the least where there are few.
    fn label_bytes(&self) -> usize {
        let texts = self.labels.iter().flatten().chain([&self.name]);
        size_of::<Self>() + texts.map(|text| TEXT_BYTES + text.len()).sum::<usize>()
    }
}

impl Table {
    /// Writes the rows that there are. The series goes on in the next group.
    fn close_group(&mut self) -> Result<(), ParquetError> {
        let mut group = self.file.next_row_group()?;
        put::<ByteArrayType>(&mut group, |column| self.series.iter().try_for_each(|series| series.put_name(column)))?;
        for part in [0, 1] {
            put::<ByteArrayType>(&mut group, |column| {
                self.series.iter().try_for_each(|series| series.put_labels(part, column))
            })?;
        }
        put::<Int64Type>(&mut group, |column| column.write_batch(&self.stamps, None, None).map(drop))?;
        put::<DoubleType>(&mut group, |column| column.write_batch(&self.values, None, None).map(drop))?;
        group.close()?;
        self.stamps.clear();
        self.values.clear();
        let last = self.series.pop();
        self.series.clear();
        self.series.extend(last.map(|last| Series { rows: 0, ..last }));
        self.label_bytes = self.series.iter().map(Series::label_bytes).sum();
        Ok(())
    }
}

impl Format for Table {
    const CONTENT_TYPE: &'static str = "application/vnd.apache.parquet";

    fn new() -> Result<Self, ExportError> {
        let schema = Arc::new(parse_message_type(SCHEMA)?);
        let file = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties()))?;
        Ok(Self { file, series: Vec::new(), label_bytes: 0, stamps: Vec::new(), values: Vec::new() })
    }

    fn begin(&mut self, _: &str, _: impl Fn(&str) -> bool) {}

    fn series(&mut self, name: &str, labels: &Labels) {
        let others = || labels.iter().filter(|(label, _)| *label != NAME);
        let labels =
            [others().map(|(label, _)| label.into()).collect(), others().map(|(_, value)| value.into()).collect()];
        let series = Series { name: name.into(), labels, rows: 0 };
        self.label_bytes += series.label_bytes();
        self.series.push(series);
    }

    fn sample(&mut self, at: Timestamp, value: f64) -> Result<(), ExportError> {
        if let Some(series) = self.series.last_mut() {
            series.rows += 1;
            self.stamps.push(at.as_millis());
            self.values.push(value);
        }
        if GROUP_ROWS_MAX <= self.stamps.len() || GROUP_LABEL_BYTES_MAX <= self.label_bytes {
            self.close_group()?;
        }
        Ok(())
    }

    fn len(&self) -> usize {
        self.file.inner().len()
    }

    fn take(&mut self) -> Vec<u8> {
        // Where things are in the file is counted as they are written, wherever these bytes are by now.
        std::mem::take(self.file.inner_mut())
    }

    fn end(mut self) -> Result<Vec<u8>, ExportError> {
        if !self.stamps.is_empty() {
            self.close_group()?;
        }
        self.file.finish()?;
        Ok(self.take())
    }
}

impl Series {
    fn put_name(&self, column: &mut ColumnWriterImpl<'_, ByteArrayType>) -> Result<(), ParquetError> {
        let names = vec![self.name.clone(); self.rows.min(BATCH)];
        self.batches(BATCH).try_for_each(|rows| column.write_batch(&names[..rows], None, None).map(drop))
    }

    /// The names of its labels, or what they say, once for each row.
    fn put_labels(&self, part: usize, column: &mut ColumnWriterImpl<'_, ByteArrayType>) -> Result<(), ParquetError> {
        let labels = &self.labels[part];
        // What stands first in a row repeats nothing; where there is nothing, one says so.
        let (begins, repeats) = (0, 1);
        let (none, some) = (0, 1);
        let of_row = labels.len().max(1);
        let most = (BATCH / of_row).clamp(1, self.rows.max(1));
        let values: Vec<_> = labels.iter().cycle().take(most * labels.len()).cloned().collect();
        let there = vec![if labels.is_empty() { none } else { some }; most * of_row];
        let mut repeated = vec![repeats; most * of_row];
        repeated.iter_mut().step_by(of_row).for_each(|first| *first = begins);
        self.batches(most).try_for_each(|rows| {
            let levels = rows * of_row;
            column.write_batch(&values[..rows * labels.len()], Some(&there[..levels]), Some(&repeated[..levels]))?;
            Ok(())
        })
    }

    /// How many rows to write one after the other, none of them more than `most`.
    fn batches(&self, most: usize) -> impl Iterator<Item = usize> {
        (0..self.rows).step_by(most).map(move |from| most.min(self.rows - from))
    }
}

/// Fills the next column of a group.
fn put<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    fill: impl FnOnce(&mut ColumnWriterImpl<'_, T>) -> Result<(), ParquetError>,
) -> Result<(), ParquetError> {
    let missing = || ParquetError::General("the schema has no further column".to_owned());
    let mut column = group.next_column()?.ok_or_else(missing)?;
    fill(column.typed())?;
    column.close()
}

/// What readers of the last years can read: stamps as differences, all else as it is or by a dictionary, compressed. What
/// lies in a group is told of names and stamps: who looks for some skips the groups without them.
fn properties() -> WriterProperties {
    let [name, stamp, value] = ["name", "timestamp", "value"].map(ColumnPath::from);
    WriterProperties::builder()
        .set_created_by(concat!("lapwing-aggregator version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_page_size_limit(DICTIONARY_BYTES)
        .set_column_dictionary_enabled(stamp.clone(), false)
        .set_column_encoding(stamp.clone(), Encoding::DELTA_BINARY_PACKED)
        .set_column_dictionary_enabled(value, false)
        // Of each page they would stay in memory until the end.
        .set_offset_index_disabled(true)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_column_statistics_enabled(name, EnabledStatistics::Chunk)
        .set_column_statistics_enabled(stamp, EnabledStatistics::Chunk)
        .build()
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use parquet::file::reader::FileReader as _;
    use parquet::file::serialized_reader::SerializedFileReader;
    use parquet::record::Field;
    use parquet::record::Row;
    use parquet::record::RowAccessor as _;
    use proptest::prelude::*;

    use super::*;

    /// All labels of a series, a stamp, and the bits of a value.
    type Told = (Labels, i64, u64);

    /// A table of series, taken away by pieces.
    fn written(series: &[(Labels, Vec<(i64, f64)>)]) -> Vec<u8> {
        let (mut table, mut out) = (Table::new().unwrap(), Vec::new());
        for (labels, samples) in series {
            table.series(labels.get(NAME), labels);
            for (at, value) in samples {
                table.sample(Timestamp::from_millis(*at), *value).unwrap();
                out.extend(table.take());
                assert_eq!(table.len(), 0);
            }
        }
        out.extend(table.end().unwrap());
        out
    }

    fn reader(file: Vec<u8>) -> SerializedFileReader<Bytes> {
        SerializedFileReader::new(Bytes::from(file)).unwrap()
    }

    fn told(row: &Row) -> Told {
        let text = |field: &Field| if let Field::Str(text) = field { text.clone() } else { String::new() };
        let entries = row.get_map(1).unwrap().entries();
        let labels: Labels = entries.iter().map(|(name, value)| (text(name), text(value))).collect();
        assert_eq!(labels.iter().count(), entries.len());
        let labels = labels.with(NAME, row.get_string(0).unwrap().as_str());
        (labels, row.get_timestamp_millis(2).unwrap(), row.get_double(3).unwrap().to_bits())
    }

    /// All rows of a file.
    fn rows(file: Vec<u8>) -> Vec<Told> {
        reader(file).get_row_iter(None).unwrap().map(|row| told(&row.unwrap())).collect()
    }

    fn flat(series: &[(Labels, Vec<(i64, f64)>)]) -> Vec<Told> {
        let of = |(labels, samples): &(Labels, Vec<(i64, f64)>)| {
            samples.iter().map(|(at, value)| (labels.clone(), *at, value.to_bits())).collect::<Vec<_>>()
        };
        series.iter().flat_map(of).collect()
    }

    #[test]
    fn nothing_is_a_table_without_rows() {
        let file = written(&[]);
        assert!(file.starts_with(b"PAR1") && file.ends_with(b"PAR1"));
        assert_eq!(rows(file), []);
    }

    #[test]
    fn what_broke_off_is_no_table() {
        let labels = Labels::new().with(NAME, "up");
        let whole = written(&[(labels, vec![(1, 1.0)])]);
        assert_eq!(rows(whole.clone()).len(), 1);
        for bytes in [0, 4, whole.len() / 2, whole.len() - 1] {
            assert!(SerializedFileReader::new(Bytes::from(whole[..bytes].to_vec())).is_err(), "{bytes}");
        }
    }

    #[test]
    fn a_group_has_so_many_rows_and_no_more() {
        let [a, b] = ["a", "b"].map(|name| Labels::new().with(NAME, name).with("of", name));
        let samples = |count: usize| (0_i64..).zip(0_u32..).map(|(at, value)| (at, value.into())).take(count).collect();
        let file = reader(written(&[(a.clone(), samples(GROUP_ROWS_MAX - 1)), (b.clone(), samples(3))]));
        let of_groups: Vec<_> = file.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
        assert_eq!(of_groups, [GROUP_ROWS_MAX as i64, 2]);
        // The series goes on, and the one before is not in the next.
        let last: Vec<Told> =
            file.get_row_group(1).unwrap().get_row_iter(None).unwrap().map(|row| told(&row.unwrap())).collect();
        assert_eq!(last, [(b.clone(), 1, 1.0_f64.to_bits()), (b, 2, 2.0_f64.to_bits())]);
        // Who looks for a metric sees where it is not.
        let names = file.metadata().row_group(1).column(0).statistics().unwrap();
        assert_eq!((names.min_bytes_opt(), names.max_bytes_opt()), (Some(&b"b"[..]), Some(&b"b"[..])));
    }

    #[test]
    fn long_labels_end_a_group_and_are_written_once_in_it() {
        let long = |at: usize| {
            let value = |label: usize| format!("{at} {label} {}", "x".repeat(4_000));
            (0..60).map(|label| (format!("l{label}"), value(label))).collect::<Labels>().with(NAME, "m")
        };
        let series: Vec<_> =
            (0..40).map(|at| (long(at), (0..300).map(|stamp| (stamp, 1.0)).collect::<Vec<_>>())).collect();
        let file = written(&series);
        let table = reader(file.clone());
        let groups = table.metadata().row_groups();
        assert!(groups.len() == 2, "{}", groups.len());
        let values = groups[0].column(2);
        // Written out, they would be three gigabytes.
        assert!(values.uncompressed_size() < 2 * GROUP_LABEL_BYTES_MAX as i64, "{}", values.uncompressed_size());
        let of_last = table.get_row_group(1).unwrap().get_row_iter(None).unwrap().last().unwrap().unwrap();
        assert_eq!(told(&of_last), (long(39), 299, 1.0_f64.to_bits()));
    }

    #[test]
    fn short_labels_end_a_group_by_what_they_take_in_memory() {
        let labels = |at: usize| {
            let labels = (0..20).map(|label| (format!("l{label}"), "x".to_owned())).collect::<Labels>();
            labels.with(NAME, "m").with("of", at.to_string())
        };
        let series: Vec<_> = (0..3_000).map(|at| (labels(at), vec![(1, 1.0)])).collect();
        let groups = reader(written(&series)).metadata().row_groups().len();
        assert_eq!(groups, 2, "each text of a few letters takes some eighty bytes");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn what_is_written_is_read_to_the_bit(
            series in prop::collection::vec(
                (prop::collection::btree_map("[a-z.\u{f6}]{1,3}", "\\PC{1,4}", 0..4), prop::collection::vec((any::<i64>(), any::<u64>()), 1..40)),
                0..8,
            )
        ) {
            let series: Vec<(Labels, Vec<(i64, f64)>)> = series
                .into_iter()
                .enumerate()
                .map(|(at, (labels, samples))| {
                    let labels = labels.into_iter().collect::<Labels>().with(NAME, format!("m{at}"));
                    (labels, samples.into_iter().map(|(at, bits)| (at, f64::from_bits(bits))).collect())
                })
                .collect();
            prop_assert_eq!(rows(written(&series)), flat(&series));
        }

        #[test]
        fn long_series_are_read_as_they_were_written(labels in 0_usize..5, samples in 900_i64..3_000) {
            let labels: Labels = (0..labels).map(|at| (format!("l{at}"), format!("v{at}"))).collect();
            let samples = (0..samples).map(|at| (at * 10_000, 0.5)).collect();
            let series = [(labels.with(NAME, "m"), samples), (Labels::new().with(NAME, "n"), vec![(1, 1.0)])];
            prop_assert_eq!(rows(written(&series)), flat(&series));
        }
    }
}
