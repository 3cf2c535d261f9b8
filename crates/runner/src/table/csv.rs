//! CSV as of RFC 4180, written so that reading it gives the same values: text that looks like a number, a boolean or
//! nothing stands in quotes, and a field in quotes is text. Roles, units and tolerances are lost.
//!
//! Read is also what spreadsheets, R and pandas write: semicolons or tabs (the header says which), decimal commas
//! beside them, quotes around everything (which then say nothing), UTF-16, comments above the header, and the usual
//! marks of missing values in columns that otherwise hold numbers.

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

/// Marks of a value that is not there, as R, pandas and spreadsheets write them.
pub(super) fn is_missing(text: &str) -> bool {
    const MARKS: [&str; 12] = [
        "", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "<NA>", "#N/A", "NAN",
    ];
    MARKS.contains(&text)
}

/// As Rust, R and pandas write it.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "TRUE" | "True" => Some(true),
        "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A CSV field, in quotes if it needs them; as a value also if it would read back as a number, a boolean or missing.
fn quote(text: &str, value: bool) -> String {
    let special = text.contains([',', ';', '\t', '"', '\n', '\r'])
        || text.trim() != text
        || text.starts_with('#')
        || text.starts_with("sep=");
    let mistaken = value && (is_missing(text) || text.parse::<f64>().is_ok() || boolean(text).is_some());
    if special || mistaken || text.is_empty() {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// A CSV field: its text, and whether it stood in quotes (an empty field without quotes is a missing value).
#[derive(Clone, Default)]
struct Field {
    text: String,
    quoted: bool,
}

/// Text with a header line; `\n`, `\r\n` and `\r` end a line. A column is int, float or bool if all its values are.
pub(super) fn from_csv(path: &Path, bytes: Vec<u8>) -> Result<Table, TableError> {
    let fail = |line, problem| TableError::Csv {
        path: path.to_owned(),
        line,
        problem,
    };
    let text = decoded(bytes).map_err(|line| fail(line, CsvProblem::Encoding))?;
    let (separator, skipped) = layout(&text);
    let above: usize = text.split_inclusive('\n').take(skipped).map(str::len).sum();
    let body = &text[above..];
    let records = csv_records(body, separator).map_err(|(line, problem)| fail(line + skipped, problem))?;
    let mut records = records.into_iter();
    let Some((_, header)) = records.next() else {
        return Err(fail(1, CsvProblem::Empty));
    };
    let mut lines = Vec::new();
    let mut columns: Vec<Vec<Field>> = header.iter().map(|_| Vec::new()).collect();
    for (line, record) in records {
        if record.len() != header.len() {
            return Err(fail(
                line + skipped,
                CsvProblem::Fields {
                    expected: header.len(),
                    found: record.len(),
                },
            ));
        }
        lines.push(line + skipped);
        columns
            .iter_mut()
            .zip(record)
            .for_each(|(column, field)| column.push(field));
    }
    // Where everything stands in quotes, they do not tell text from numbers.
    let present = || {
        columns
            .iter()
            .flatten()
            .filter(|field| field.quoted || !is_missing(&field.text))
    };
    if header.iter().all(|field| field.quoted) && present().all(|field| field.quoted) {
        columns.iter_mut().flatten().for_each(|field| field.quoted = false);
    }
    let comma = separator != ',' && has_decimal_commas(&columns, separator);
    let mut names = Vec::new();
    let mut kept = Vec::new();
    for (name, column) in header.into_iter().zip(columns) {
        // Spreadsheets end every line with separators where a cell was touched once.
        let nothing = !name.quoted && name.text.is_empty() && column.iter().all(|f| !f.quoted && f.text.is_empty());
        if !nothing {
            names.push(name.text);
            kept.push(typed(column, comma));
        }
    }
    let mut table = infer(path, names, kept)?;
    table.lines = lines;
    Ok(table)
}

/// UTF-8, or UTF-16 that says so; the line of what is neither.
fn decoded(bytes: Vec<u8>) -> Result<String, usize> {
    let wide: Option<fn([u8; 2]) -> u16> = match bytes.as_slice() {
        [0xff, 0xfe, ..] => Some(u16::from_le_bytes),
        [0xfe, 0xff, ..] => Some(u16::from_be_bytes),
        _ => None,
    };
    if let Some(unit) = wide {
        let units = bytes[2..].chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
        let mut text = String::new();
        for character in char::decode_utf16(units) {
            let line = || 1 + text.matches('\n').count();
            text.push(character.map_err(|_| line())?);
        }
        return Ok(text);
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        1 + good.iter().filter(|&&byte| byte == b'\n').count()
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

/// The separator, and lines above the header: comments, and the one with which spreadsheets are told the separator.
fn layout(text: &str) -> (char, usize) {
    let mut lines = text.split('\n').map(|line| line.trim_end_matches('\r'));
    if let Some(sign) = lines.next().and_then(|line| line.strip_prefix("sep="))
        && let (Some(separator), 1) = (sign.chars().next(), sign.chars().count())
    {
        return (separator, 1);
    }
    let comments = text.split('\n').take_while(|line| line.starts_with('#')).count();
    let header = text.split('\n').nth(comments).unwrap_or_default();
    let separator = separator_of(header);
    // A header may begin with that sign, too: it then has as many fields as what follows.
    let last = comments.checked_sub(1).and_then(|place| text.split('\n').nth(place));
    match last {
        Some(line) if header.trim().is_empty() || outside(line, separator) == outside(header, separator) => {
            (separator_of(line), comments - 1)
        }
        _ => (separator, comments),
    }
}

/// What divides a header most often.
fn separator_of(header: &str) -> char {
    let counted = [',', ';', '\t'].map(|sign| (outside(header, sign), sign));
    let most = counted.iter().map(|(count, _)| *count).max().unwrap_or(0);
    counted
        .into_iter()
        .find(|(count, _)| *count == most)
        .map_or(',', |(_, sign)| sign)
}

/// How often a sign stands outside of quotes.
fn outside(line: &str, sign: char) -> usize {
    let parts = line.split('"').step_by(2);
    parts.map(|part| part.matches(sign).count()).sum()
}

/// Whether numbers have commas where others have points: some have one, none has a point. Beside tabs `1,234` alone
/// may as well be a thousand and is left as it is.
fn has_decimal_commas(columns: &[Vec<Field>], separator: char) -> bool {
    let fields = || columns.iter().flatten().map(|field| field.text.as_str());
    let is_number = |text: &str, point: char| {
        text.matches(point).count() == 1
            && text.starts_with(|c: char| c.is_ascii_digit() || "+-,".contains(c))
            && text.replace(point, ".").parse::<f64>().is_ok()
    };
    let grouped = |text: &str| text.split_once(',').is_some_and(|(_, rest)| rest.len() == 3);
    let with_comma = || fields().filter(|text| is_number(text, ','));
    !fields().any(|text| is_number(text, '.'))
        && with_comma().next().is_some()
        && (separator == ';' || with_comma().any(|text| !grouped(text)))
}

/// The line it begins on, and its fields.
type CsvRecord = (usize, Vec<Field>);

/// All records. Empty lines are skipped, unless there is but one column. Blanks around a field are no part of it.
fn csv_records(text: &str, separator: char) -> Result<Vec<CsvRecord>, (usize, CsvProblem)> {
    let mut records: Vec<CsvRecord> = Vec::new();
    let (mut record, mut field) = (Vec::new(), Field::default());
    let (mut line, mut start) = (1, 1);
    let mut characters = text.chars().peekable();
    let finish = |field: &mut Field| {
        let mut done = std::mem::take(field);
        if !done.quoted {
            done.text = done.text.trim().to_owned();
        }
        done
    };
    loop {
        match characters.next() {
            Some('"') if !field.quoted && field.text.trim().is_empty() => {
                field.quoted = true;
                field.text.clear();
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
            Some(character) if character == separator => record.push(finish(&mut field)),
            Some('\r') if characters.peek() == Some(&'\n') => {}
            end @ (Some('\n' | '\r') | None) => {
                let field = finish(&mut field);
                let empty = record.is_empty() && field.text.is_empty() && !field.quoted;
                record.push(field);
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
            Some(' ') if field.quoted => {}
            Some(_) if field.quoted => return Err((line, CsvProblem::AfterQuote)),
            Some(character) => field.text.push(character),
        }
    }
}

/// The narrowest type that all present fields of a column fit. Marks of missing values are text among texts, since
/// they may be names (`NA` is an area), unless all others stand in quotes.
fn typed(mut fields: Vec<Field>, comma: bool) -> (DType, Vec<Value>) {
    let is_absent = |field: &Field| !field.quoted && is_missing(&field.text);
    // "007" is a label, not the number 7.
    let padded = |text: &str| matches!(text.trim_start_matches(['-', '+']).as_bytes(), [b'0', b'0'..=b'9', ..]);
    let int = |text: &str| text.parse::<i64>().ok().filter(|_| !padded(text)).map(Value::Int);
    let float = |text: &str| match text.parse::<f64>() {
        Ok(_) if padded(text) => None,
        Ok(value) if value.is_nan() => Some(Value::Null),
        Ok(value) => Some(Value::Float(value)),
        Err(_) => None,
    };
    let all = |parse: &dyn Fn(&str) -> Option<Value>| -> Option<Vec<Value>> {
        let value = |field: &Field| match field.quoted {
            _ if is_absent(field) => Some(Value::Null),
            false if comma => parse(&field.text.replacen(',', ".", 1)),
            false => parse(&field.text),
            true => None,
        };
        fields.iter().map(value).collect()
    };
    let absent = fields.iter().all(is_absent);
    if let (Some(values), false) = (all(&int), absent) {
        (DType::Int, values)
    } else if let Some(values) = all(&float) {
        (DType::Float, values)
    } else if let Some(values) = all(&|text| boolean(text).map(Value::Bool)) {
        (DType::Bool, values)
    } else {
        let marks = fields.iter().all(|field| field.quoted || is_missing(&field.text));
        let value = |field: &mut Field| match !field.quoted && (field.text.is_empty() || marks) {
            true => Value::Null,
            false => Value::Text(std::mem::take(&mut field.text)),
        };
        (DType::Text, fields.iter_mut().map(value).collect())
    }
}
