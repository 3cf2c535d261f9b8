//! CSV as of RFC 4180, written so that reading it gives the same values: text that looks like a number, a boolean or
//! nothing stands in quotes, and a field in quotes is always text. Roles, units and tolerances are lost.

use std::path::Path;

use super::file::infer;
use super::schema::DType;
use super::{CsvProblem, Table, TableError, Value};

/// The whole table, floats in their shortest exact form, a missing value as an empty field.
pub(super) fn to_csv(table: &Table) -> String {
    let mut text = String::new();
    let mut line = |fields: Vec<String>| {
        text.push_str(&fields.join(","));
        text.push('\n');
    };
    line(
        table
            .schema
            .columns
            .iter()
            .map(|column| quote(&column.name, false))
            .collect(),
    );
    for row in 0..table.height() {
        let field = |column: &Vec<Value>| match &column[row] {
            Value::Text(text) => quote(text, true),
            value => value.to_string(),
        };
        line(table.columns.iter().map(field).collect());
    }
    text
}

/// A CSV field, in quotes if it needs them; as a value also if it would read back as a number, a boolean or missing.
fn quote(text: &str, value: bool) -> String {
    let special = text.contains([',', '"', '\n', '\r']);
    let mistaken = value && (text.is_empty() || text.parse::<f64>().is_ok() || text.parse::<bool>().is_ok());
    if special || mistaken {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// A CSV field: its text, and whether it stood in quotes (an empty field without quotes is a missing value).
#[derive(Default)]
struct Field {
    text: String,
    quoted: bool,
}

/// RFC 4180 with a header line; `\n` and `\r\n` both end a line. A column is int, float or bool if all its values are.
pub(super) fn from_csv(path: &Path, bytes: Vec<u8>) -> Result<Table, TableError> {
    let fail = |line, problem| TableError::Csv {
        path: path.to_owned(),
        line,
        problem,
    };
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        fail(
            1 + good.iter().filter(|&&byte| byte == b'\n').count(),
            CsvProblem::Encoding,
        )
    })?;
    let records = csv_records(text.strip_prefix('\u{feff}').unwrap_or(&text));
    let mut records = records.map_err(|(line, problem)| fail(line, problem))?.into_iter();
    let Some((_, header)) = records.next() else {
        return Err(fail(1, CsvProblem::Empty));
    };
    let mut columns: Vec<Vec<Field>> = header.iter().map(|_| Vec::new()).collect();
    for (line, record) in records {
        if record.len() != header.len() {
            return Err(fail(
                line,
                CsvProblem::Fields {
                    expected: header.len(),
                    found: record.len(),
                },
            ));
        }
        columns
            .iter_mut()
            .zip(record)
            .for_each(|(column, field)| column.push(field));
    }
    let names = header.into_iter().map(|field| field.text).collect();
    infer(path, names, columns.into_iter().map(typed).collect())
}

/// The line it begins on, and its fields.
type Record = (usize, Vec<Field>);

/// All records. Empty lines are skipped, unless there is but one column.
fn csv_records(text: &str) -> Result<Vec<Record>, (usize, CsvProblem)> {
    let mut records: Vec<Record> = Vec::new();
    let (mut record, mut field) = (Vec::new(), Field::default());
    let (mut line, mut start) = (1, 1);
    let mut characters = text.chars().peekable();
    loop {
        match characters.next() {
            Some('"') if !field.quoted && field.text.is_empty() => {
                field.quoted = true;
                let opened = line;
                loop {
                    match characters.next() {
                        Some('"') if characters.next_if_eq(&'"').is_none() => break,
                        Some(character) => {
                            line += usize::from(character == '\n');
                            field.text.push(character);
                        }
                        None => return Err((opened, CsvProblem::OpenQuote)),
                    }
                }
            }
            Some(',') => record.push(std::mem::take(&mut field)),
            Some('\r') if characters.peek() == Some(&'\n') => {}
            end @ (Some('\n') | None) => {
                let empty = record.is_empty() && field.text.is_empty() && !field.quoted;
                record.push(std::mem::take(&mut field));
                let finished = std::mem::take(&mut record);
                // A single column's missing value is an empty line, too.
                let blank = empty && (end.is_none() || records.first().is_none_or(|(_, header)| header.len() != 1));
                if !blank {
                    records.push((start, finished));
                }
                if end.is_none() {
                    return Ok(records);
                }
                line += 1;
                start = line;
            }
            Some(_) if field.quoted => return Err((line, CsvProblem::AfterQuote)),
            Some(character) => field.text.push(character),
        }
    }
}

/// The narrowest type that all present fields of a column fit.
fn typed(fields: Vec<Field>) -> (DType, Vec<Value>) {
    // "007" is a label, not the number 7.
    let padded = |text: &str| matches!(text.trim_start_matches(['-', '+']).as_bytes(), [b'0', b'0'..=b'9', ..]);
    let int = |text: &str| text.parse::<i64>().ok().filter(|_| !padded(text)).map(Value::Int);
    let float = |text: &str| match text.parse::<f64>() {
        Ok(_) if padded(text) => None,
        Ok(value) if value.is_nan() => Some(Value::Null),
        Ok(value) => Some(Value::Float(value)),
        Err(_) => None,
    };
    let boolean = |text: &str| text.parse::<bool>().ok().map(Value::Bool);
    let all = |parse: &dyn Fn(&str) -> Option<Value>| -> Option<Vec<Value>> {
        let value = |field: &Field| match (field.quoted, field.text.as_str()) {
            (false, "") => Some(Value::Null),
            (false, text) => parse(text),
            (true, _) => None,
        };
        fields.iter().map(value).collect()
    };
    let absent = fields.iter().all(|field| !field.quoted && field.text.is_empty());
    if let (Some(values), false) = (all(&int), absent) {
        (DType::Int, values)
    } else if let Some(values) = all(&float) {
        (DType::Float, values)
    } else if let Some(values) = all(&boolean) {
        (DType::Bool, values)
    } else {
        let value = |field: Field| {
            if field.text.is_empty() && !field.quoted {
                Value::Null
            } else {
                Value::Text(field.text)
            }
        };
        (DType::Text, fields.into_iter().map(value).collect())
    }
}
