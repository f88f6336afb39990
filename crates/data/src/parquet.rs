//! Encoded images in Parquet files, as the Hugging Face hub has them: `parquet:DIR`, or one file.
//!
//! The images are a column of bytes, or a group of columns one of which is `bytes` (`image{bytes, path}`); the
//! labels are a column of whole numbers or words, named `label` unless `?label=` says otherwise. Names of classes
//! that the file's metadata tell (the hub's `ClassLabel`) are the classes; else those in `classes.txt` beside the
//! files; else the distinct labels. `shards` tells which file is of which split.
//!
//! Opening such a source reads the labels, then the images once, row after row. Later a row is found through the
//! headers of its row group's pages, and one page is read for it. Pages are plain or of a dictionary, plain or
//! compressed by Snappy, which is how images come; for other encodings and compressions the error says so.
//!
//! What a file claims is checked against what it has before memory is taken, but for the size of a page once it
//! is decompressed: up to 2 GiB, as the format's numbers have it. A panic of the library is an error of the file.
//!
//! Errors name the file and the row: no such column, or one of another type, files that were cut off or lie about
//! counts, rows without a label.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Encoding, Type};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::column::reader::{ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::SchemaDescriptor;

use super::error::shown;
use super::files::{Listing, MOST_CLASSES, Place, Splits, Store, TestChoice};
use super::shards::{self, Shard};
use super::{Error, ImageFiles, classes};

/// Of a compressed page or of a file's metadata.
const MOST_BYTES: usize = 1 << 28;
/// Labels that are read at a time.
const RUN: usize = 4096;

pub(super) fn list(source: &ImageFiles) -> Result<Listing, Error> {
    let (root, shards) = shards::find(&source.path, "parquet")?;
    let mut named = classes::read(&root.join("classes.txt"), MOST_CLASSES)?;
    let label = source.label.as_deref().unwrap_or("label");
    let (mut splits, mut tables) = (Splits::default(), Vec::with_capacity(shards.len()));
    for (index, Shard { path, split }) in shards.into_iter().enumerate() {
        let place = Place::of_file(index)?;
        let whole = root.join(&path);
        let add = || {
            let table = Table::open(FileBytes::open(&whole)?, source.image.as_deref(), path)?;
            if let Some(names) = class_names(&table.metadata, label)? {
                named = Some(names);
            }
            table.labels(label, |row, label| {
                splits.push(split, Place { at: row, ..place }, label)
            })?;
            Ok(table)
        };
        tables.push(guarded(add).map_err(|problem| Error::at(&whole, problem))?);
    }
    let choice = TestChoice {
        test: source.test.as_deref(),
        seed: source.seed,
    };
    let store = Arc::new(Tables { root, tables });
    splits.divide(&source.path, choice, named, store)
}

/// Images as rows of tables.
#[derive(Debug)]
struct Tables {
    root: Box<Path>,
    tables: Vec<Table<FileBytes>>,
}

impl Store for Tables {
    fn root(&self) -> &Path {
        &self.root
    }

    fn name(&self, place: Place) -> String {
        format!(
            "{}: row {}",
            self.tables[place.file as usize].path.display(),
            place.at
        )
    }

    fn read(&self, place: Place, limit: usize) -> Result<Vec<u8>, String> {
        self.tables[place.file as usize].read(&mut None, place.at, limit)
    }

    fn read_each(
        &self,
        places: &mut dyn Iterator<Item = Place>,
        limit: usize,
        take: &mut dyn FnMut(Result<Vec<u8>, String>) -> bool,
    ) {
        let (mut file, mut cursor) = (None, None);
        for place in places {
            if file.replace(place.file) != Some(place.file) {
                cursor = None;
            }
            if !take(self.tables[place.file as usize].read(&mut cursor, place.at, limit)) {
                return;
            }
        }
    }
}

/// A file with a column of images.
#[derive(Debug)]
pub(super) struct Table<R> {
    /// Inside the source.
    path: Box<Path>,
    bytes: Arc<R>,
    metadata: ParquetMetaData,
    /// The column of images.
    images: usize,
    /// The first row of each row group, and the number of all rows.
    starts: Vec<u64>,
}

/// A column that is being read.
struct Cursor<T: DataType> {
    group: usize,
    /// The next row of the group.
    row: u64,
    column: ColumnReaderImpl<T>,
}

impl<R: ChunkReader + 'static> Table<R> {
    /// Reads the metadata; `image` names the column of images where it is not the only one of its kind.
    pub fn open(bytes: R, image: Option<&str>, path: Box<Path>) -> Result<Self, String> {
        let mut reader = ParquetMetaDataReader::new();
        reader
            .try_parse(&bytes)
            .map_err(|error| error.to_string())?;
        let metadata = reader.finish().map_err(|error| error.to_string())?;
        let images = image_column(metadata.file_metadata().schema_descr(), image)?;
        let mut starts = vec![0_u64];
        for (index, group) in metadata.row_groups().iter().enumerate() {
            let rows = u64::try_from(group.num_rows()).ok();
            let end = rows.and_then(|rows| starts[index].checked_add(rows));
            starts.push(end.ok_or_else(|| {
                format!(
                    "row group {index}: expected a count of rows, found {}",
                    group.num_rows()
                )
            })?);
        }
        Ok(Self {
            path,
            bytes: Arc::new(bytes),
            metadata,
            images,
            starts,
        })
    }

    /// Tells each row's label.
    pub fn labels(
        &self,
        name: &str,
        mut take: impl FnMut(u64, &str) -> Result<(), String>,
    ) -> Result<(), String> {
        let schema = self.metadata.file_metadata().schema_descr();
        let Some(column) = position(schema, name) else {
            return Err(format!(
                "expected a column `{name}` of labels, found {}",
                names(schema)
            ));
        };
        let mut number = |row, label: Option<i64>| match label {
            Some(label) => take(row, &label.to_string()),
            None => Err(unlabelled(row, name)),
        };
        match schema.column(column).physical_type() {
            Type::INT32 => self.column::<Int32Type>(column, |row, label| {
                number(row, label.map(|&label| label.into()))
            }),
            Type::INT64 => {
                self.column::<Int64Type>(column, |row, label| number(row, label.copied()))
            }
            Type::BYTE_ARRAY => self.column::<ByteArrayType>(column, |row, label| {
                let label = label.ok_or_else(|| unlabelled(row, name))?;
                let label = std::str::from_utf8(label.data());
                take(
                    row,
                    label.map_err(|_| format!("row {row}, column `{name}`: expected UTF-8"))?,
                )
            }),
            other => Err(format!(
                "column `{name}`: expected whole numbers or words, found {other}"
            )),
        }
    }

    /// All values of a column, none where one is null.
    fn column<T: DataType>(
        &self,
        column: usize,
        mut take: impl FnMut(u64, Option<&T::T>) -> Result<(), String>,
    ) -> Result<(), String> {
        for (group, ends) in self.starts.windows(2).enumerate() {
            let mut reader = self.cursor::<T>(group, column)?.column;
            let mut row = ends[0];
            while row < ends[1] {
                let count = RUN.min((ends[1] - row) as usize);
                let (mut levels, mut values) = (Vec::new(), Vec::new());
                let read = reader.read_records(count, Some(&mut levels), None, &mut values);
                let (rows, ..) = read.map_err(|error| format!("row {row}: {error}"))?;
                if rows == 0 {
                    return Err(format!("row {row}: cut off: expected {} rows", ends[1]));
                }
                let most = self
                    .metadata
                    .file_metadata()
                    .schema_descr()
                    .column(column)
                    .max_def_level();
                let mut values = values.iter();
                for index in 0..rows {
                    let is_there = most == 0 || levels.get(index) == Some(&most);
                    take(row, if is_there { values.next() } else { None })?;
                    row += 1;
                }
            }
        }
        Ok(())
    }

    fn cursor<T: DataType>(&self, group: usize, column: usize) -> Result<Cursor<T>, String> {
        let chunk = self.metadata.row_group(group).column(column);
        let rows = self.starts[group + 1] - self.starts[group];
        let pages = SerializedPageReader::new(Arc::clone(&self.bytes), chunk, rows as usize, None);
        let pages = pages.map_err(|error| format!("row group {group}: {error}"))?;
        let descriptor = self.metadata.file_metadata().schema_descr().column(column);
        let pages = Box::new(CheckedPages(pages));
        let reader = parquet::column::reader::get_column_reader(descriptor, pages);
        Ok(Cursor {
            group,
            row: 0,
            column: get_typed_column_reader(reader),
        })
    }

    /// The encoded image of a row; a cursor before it in its group saves the way there.
    fn read(
        &self,
        cursor: &mut Option<Cursor<ByteArrayType>>,
        row: u64,
        limit: usize,
    ) -> Result<Vec<u8>, String> {
        guarded(|| {
            let group = self.starts.partition_point(|start| *start <= row) - 1;
            let at = row - self.starts[group];
            let usable = cursor
                .take()
                .filter(|cursor| cursor.group == group && cursor.row <= at);
            let mut reader = match usable {
                Some(cursor) => cursor,
                None => self.cursor(group, self.images)?,
            };
            let said = |error: ParquetError| error.to_string();
            let skip = (at - reader.row) as usize;
            let skipped = reader.column.skip_records(skip).map_err(said)?;
            let (mut levels, mut values) = (Vec::new(), Vec::<ByteArray>::new());
            let read = reader
                .column
                .read_records(1, Some(&mut levels), None, &mut values);
            if skipped != skip || read.map_err(said)?.0 != 1 {
                return Err("cut off: expected a row, found none".into());
            }
            reader.row = at + 1;
            *cursor = Some(reader);
            let bytes = values
                .first()
                .ok_or("expected an image, found none")?
                .data();
            Ok(bytes[..bytes.len().min(limit.saturating_add(1))].to_vec())
        })
    }
}

fn unlabelled(row: u64, column: &str) -> String {
    format!("row {row}, column `{column}`: expected a label, found none")
}

/// The column of this name, where it is no list.
fn position(schema: &SchemaDescriptor, name: &str) -> Option<usize> {
    let columns = schema.columns().iter();
    let mut columns = columns.enumerate();
    columns
        .find(|(_, column)| column.path().string() == name && column.max_rep_level() == 0)
        .map(|(index, _)| index)
}

fn names(schema: &SchemaDescriptor) -> String {
    let names: Vec<String> = schema
        .columns()
        .iter()
        .map(|column| column.path().string())
        .collect();
    shown(&names.join(", "))
}

fn image_column(schema: &SchemaDescriptor, name: Option<&str>) -> Result<usize, String> {
    let is_bytes = |index: &usize| schema.column(*index).physical_type() == Type::BYTE_ARRAY;
    if let Some(name) = name {
        let column = position(schema, name).or_else(|| position(schema, &format!("{name}.bytes")));
        return column.filter(is_bytes).ok_or_else(|| {
            format!(
                "expected a column `{name}` of bytes, found {}",
                names(schema)
            )
        });
    }
    let mut found = (0..schema.num_columns()).filter(|&index| {
        let path = schema.column(index).path().string();
        let is_image = path.ends_with(".bytes") || path == "image";
        is_image && schema.column(index).max_rep_level() == 0 && is_bytes(&index)
    });
    match (found.next(), found.next()) {
        (Some(column), None) => Ok(column),
        (None, _) => Err(format!(
            "expected a column of images, image{{bytes, path}}, found {}; name it by image=COLUMN",
            names(schema)
        )),
        _ => Err(format!(
            "expected one column of images, found {}; name it by image=COLUMN",
            names(schema)
        )),
    }
}

/// The classes' names as the hub's metadata has them.
fn class_names(metadata: &ParquetMetaData, label: &str) -> Result<Option<Vec<String>>, String> {
    let pairs = metadata.file_metadata().key_value_metadata();
    let pair = pairs.and_then(|pairs| pairs.iter().find(|pair| pair.key == "huggingface"));
    let Some(text) = pair.and_then(|pair| pair.value.as_deref()) else {
        return Ok(None);
    };
    let json: serde_json::Value = serde_json::from_str(text)
        .map_err(|error| format!("metadata `huggingface`: expected JSON: {error}"))?;
    let Some(names) = json["info"]["features"][label]["names"].as_array() else {
        return Ok(None);
    };
    let name = |name: &serde_json::Value| name.as_str().map(String::from);
    let names: Option<Vec<String>> = names.iter().map(name).collect();
    names
        .map(Some)
        .ok_or_else(|| "metadata `huggingface`: expected classes' names as words".into())
}

/// Runs what calls the library, whose panics become errors.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    // What a panic leaves half-changed is dropped with the cursor that was taken.
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err("damaged: the reader gave up on it".into()))
}

/// A file that several threads read, each at its place.
#[derive(Debug)]
pub(super) struct FileBytes {
    path: Box<Path>,
    length: u64,
}

impl FileBytes {
    fn open(path: &Path) -> Result<Self, String> {
        let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
        Ok(Self {
            path: path.into(),
            length: metadata.len(),
        })
    }
}

impl Length for FileBytes {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for FileBytes {
    type T = BufReader<File>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(start))?;
        Ok(BufReader::new(file))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let fits = start
            .checked_add(length as u64)
            .is_some_and(|end| end <= self.length);
        if !fits || length > MOST_BYTES {
            return Err(ParquetError::General(format!(
                "byte {start}: expected at most {MOST_BYTES} bytes inside the file's {}, found {length}",
                self.length
            )));
        }
        let mut bytes = Vec::with_capacity(length);
        self.get_read(start)?
            .take(length as u64)
            .read_to_end(&mut bytes)?;
        if bytes.len() != length {
            return Err(ParquetError::EOF(format!(
                "expected {length} bytes, found {}",
                bytes.len()
            )));
        }
        Ok(bytes.into())
    }
}

/// Pages whose claims are checked against the bytes that they have, before a decoder believes them.
struct CheckedPages<R: ChunkReader>(SerializedPageReader<R>);

impl<R: ChunkReader> CheckedPages<R> {
    fn check(page: &Page) -> ParquetResult<()> {
        let encoding = page.encoding();
        #[allow(deprecated, reason = "old files have it")]
        let known = [
            Encoding::PLAIN,
            Encoding::RLE_DICTIONARY,
            Encoding::PLAIN_DICTIONARY,
        ];
        if !known.contains(&encoding) {
            return Err(ParquetError::NYI(format!(
                "expected pages that are plain or of a dictionary, found {encoding}; write the file anew so"
            )));
        }
        // The shortest value, an empty string, has four bytes of length.
        let values = page.num_values() as usize;
        if page.is_dictionary_page() && values > page.buffer().len() / 4 {
            return Err(ParquetError::General(format!(
                "expected a dictionary of {values} values, found {} bytes",
                page.buffer().len()
            )));
        }
        Ok(())
    }
}

impl<R: ChunkReader> Iterator for CheckedPages<R> {
    type Item = ParquetResult<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl<R: ChunkReader> PageReader for CheckedPages<R> {
    fn get_next_page(&mut self) -> ParquetResult<Option<Page>> {
        let page = self.0.get_next_page()?;
        page.iter().try_for_each(Self::check)?;
        Ok(page)
    }

    fn peek_next_page(&mut self) -> ParquetResult<Option<PageMetadata>> {
        self.0.peek_next_page()
    }

    fn skip_next_page(&mut self) -> ParquetResult<()> {
        self.0.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> ParquetResult<bool> {
        self.0.at_record_boundary()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use parquet::basic::Compression;
    use parquet::file::metadata::KeyValue;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use parquet::schema::types::ColumnPath;

    use super::*;
    use crate::Layout;
    use crate::files::Listed;

    const HUB: &str =
        "message m { optional group image { optional binary bytes; optional binary path (UTF8); }
        optional int64 label; }";

    /// Row i holds an image of i bytes, none where `None`; three rows a group and few a page.
    fn table(
        labels: &[Option<i64>],
        images: &[Option<usize>],
        edit: impl Fn(&mut Options),
    ) -> Vec<u8> {
        let mut options = Options {
            compression: Compression::SNAPPY,
            dictionary: false,
            metadata: None,
            encoding: None,
        };
        edit(&mut options);
        let properties = WriterProperties::builder()
            .set_compression(options.compression)
            .set_dictionary_enabled(options.dictionary)
            .set_data_page_row_count_limit(2)
            .set_write_batch_size(1)
            .set_key_value_metadata(
                options
                    .metadata
                    .map(|text| vec![KeyValue::new("huggingface".to_owned(), text)]),
            );
        let properties = match options.encoding {
            Some(encoding) => {
                let column = ColumnPath::from(vec!["image".to_owned(), "bytes".to_owned()]);
                properties.set_column_encoding(column, encoding)
            }
            None => properties,
        };
        let schema = Arc::new(parse_message_type(HUB).unwrap());
        let mut writer =
            SerializedFileWriter::new(Vec::new(), schema, properties.build().into()).unwrap();
        for (labels, images) in labels.chunks(3).zip(images.chunks(3)) {
            let mut group = writer.next_row_group().unwrap();
            let bytes = |length: usize| ByteArray::from(vec![7_u8; length]);
            let levels: Vec<i16> = images
                .iter()
                .map(|image| if image.is_some() { 2 } else { 1 })
                .collect();
            let values: Vec<ByteArray> = images
                .iter()
                .flatten()
                .map(|&length| bytes(length))
                .collect();
            for is_bytes in [true, false] {
                let mut column = group.next_column().unwrap().unwrap();
                let written = match is_bytes {
                    true => {
                        column
                            .typed::<ByteArrayType>()
                            .write_batch(&values, Some(&levels), None)
                    }
                    false => column.typed::<ByteArrayType>().write_batch(
                        &[],
                        Some(&vec![1; images.len()]),
                        None,
                    ),
                };
                written.unwrap();
                column.close().unwrap();
            }
            let mut column = group.next_column().unwrap().unwrap();
            let levels: Vec<i16> = labels
                .iter()
                .map(|label| i16::from(label.is_some()))
                .collect();
            let values: Vec<i64> = labels.iter().flatten().copied().collect();
            column
                .typed::<Int64Type>()
                .write_batch(&values, Some(&levels), None)
                .unwrap();
            column.close().unwrap();
            group.close().unwrap();
        }
        writer.into_inner().unwrap()
    }

    struct Options {
        compression: Compression,
        dictionary: bool,
        metadata: Option<String>,
        encoding: Option<Encoding>,
    }

    fn labels(bytes: &[u8]) -> Result<Vec<String>, String> {
        guarded(|| {
            let table = Table::open(Bytes::copy_from_slice(bytes), None, Path::new("t").into())?;
            let mut labels = Vec::new();
            table.labels("label", |row, label| {
                assert_eq!(row, labels.len() as u64);
                labels.push(label.to_owned());
                Ok(())
            })?;
            Ok(labels)
        })
    }

    fn images(bytes: &[u8], rows: &[u64]) -> Result<Vec<usize>, String> {
        let table = || Table::open(Bytes::copy_from_slice(bytes), None, Path::new("t").into());
        let table = guarded(table)?;
        let mut cursor = None;
        let lengths = rows.iter().map(|&row| {
            let image = table.read(&mut cursor, row, 5)?;
            // The same from a cursor of its own.
            assert_eq!(table.read(&mut None, row, 5)?, image);
            Ok(image.len())
        });
        lengths.collect()
    }

    #[test]
    fn rows_are_read_in_any_order() {
        let labels_in: Vec<_> = (0..8).map(|i| Some(i % 3)).collect();
        let images_in: Vec<_> = (0..8).map(Some).collect();
        for compression in [Compression::SNAPPY, Compression::UNCOMPRESSED] {
            for dictionary in [true, false] {
                let bytes = table(&labels_in, &images_in, |options| {
                    (options.compression, options.dictionary) = (compression, dictionary);
                });
                assert_eq!(
                    labels(&bytes).unwrap(),
                    ["0", "1", "2", "0", "1", "2", "0", "1"]
                );
                let rows = [0, 1, 2, 3, 4, 5, 6, 7, 3, 5, 4, 4, 0];
                // Of more than five bytes one more tells.
                let lengths = [0, 1, 2, 3, 4, 5, 6, 6, 3, 5, 4, 4, 0];
                assert_eq!(images(&bytes, &rows).unwrap(), lengths);
            }
        }
    }

    #[test]
    fn what_is_null_is_told() {
        let bytes = table(&[Some(0), None], &[Some(1), None], |_| ());
        let error = labels(&bytes).unwrap_err();
        assert!(
            error.contains("row 1, column `label`: expected a label"),
            "{error}"
        );
        assert_eq!(images(&bytes, &[0]).unwrap(), [1]);
        assert!(
            images(&bytes, &[1])
                .unwrap_err()
                .contains("expected an image, found none")
        );
    }

    #[test]
    fn other_columns_are_helped() {
        let bytes = table(&[Some(0)], &[Some(1)], |_| ());
        let open =
            |image| Table::open(Bytes::copy_from_slice(&bytes), image, Path::new("t").into());
        assert!(open(Some("image")).is_ok() && open(Some("image.bytes")).is_ok());
        for name in ["label", "img"] {
            let error = open(Some(name)).err().unwrap();
            assert!(
                error.contains(&format!(
                    "`{name}` of bytes, found image.bytes, image.path, label"
                )),
                "{error}"
            );
        }
        let error = open(None)
            .unwrap()
            .labels("kind", |_, _| Ok(()))
            .unwrap_err();
        assert!(
            error.contains("expected a column `kind` of labels, found image.bytes"),
            "{error}"
        );
        let delta = table(&[Some(0)], &[Some(1)], |options| {
            options.encoding = Some(Encoding::DELTA_BYTE_ARRAY)
        });
        let error = images(&delta, &[0]).unwrap_err();
        assert!(
            error.contains("found DELTA_BYTE_ARRAY; write the file anew"),
            "{error}"
        );
    }

    #[test]
    fn metadata_names_the_classes() {
        let named = |text: &str| {
            let bytes = table(&[Some(0)], &[Some(1)], |options| {
                options.metadata = Some(text.into())
            });
            let table = Table::open(Bytes::from(bytes), None, Path::new("t").into()).unwrap();
            class_names(&table.metadata, "label")
        };
        let text =
            r#"{"info": {"features": {"label": {"names": ["a", "b"], "_type": "ClassLabel"}}}}"#;
        assert_eq!(named(text).unwrap().unwrap(), ["a", "b"]);
        assert_eq!(named(&text.replace("names", "x")).unwrap(), None);
        assert!(
            named(&text.replace("\"a\"", "1"))
                .unwrap_err()
                .contains("as words")
        );
        assert!(named("{").unwrap_err().contains("expected JSON"));
    }

    #[test]
    fn a_file_that_is_cut_off_anywhere_is_told() {
        let whole = table(&[Some(0), Some(1)], &[Some(1), Some(2)], |_| ());
        for length in 0..whole.len() {
            assert!(labels(&whole[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn damage_is_an_error_or_shows_in_the_values() {
        let whole = table(
            &[Some(0), Some(1), Some(0), Some(1)],
            &[Some(1), Some(2), None, Some(3)],
            |options| {
                options.dictionary = true;
            },
        );
        for at in 0..whole.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] ^= flip;
                let _ = labels(&damaged);
                let _ = images(&damaged, &[0, 1, 3]);
            }
        }
    }

    #[test]
    fn what_the_hub_wrote_is_read() {
        let folder =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../reference/fixtures/sources/hub");
        let listing = list(&ImageFiles::new(Layout::Parquet, &folder)).unwrap();
        assert_eq!(listing.classes, ["ant", "bee", "cat"]);
        let labels = |images: &[Listed]| images.iter().map(|image| image.label).collect::<Vec<_>>();
        assert_eq!(labels(&listing.train), [0, 1, 2, 1, 0]);
        assert_eq!(labels(&listing.test), [2, 1]);
        let place = listing.train[1].place;
        assert_eq!(
            listing.store.name(place),
            "data/train-00000-of-00001.parquet: row 1"
        );
        let expected = fs::read(folder.join("../../encoded/q75-s2.jpg")).unwrap();
        assert_eq!(listing.store.read(place, 9999).unwrap(), expected);
    }

    #[test]
    fn defects_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("train.parquet"), b"PAR1 no table PAR1").unwrap();
        let error = list(&ImageFiles::new(Layout::Parquet, folder.path()))
            .unwrap_err()
            .to_string();
        assert!(error.contains("train.parquet: "), "{error}");
    }
}
