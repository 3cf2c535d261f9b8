//! Result tables in a page: the first rows as HTML, all of them as data for the script, or as many as there is room
//! for.

use std::collections::HashMap;

use dynvis_runner::table::{DType, Role, Table, Value, significant};

use super::draw::left_out;
use super::html::{escape, json_block};
use crate::cli::wording::count;

/// Rows of a result table that are shown before anybody asks for more, and on paper.
pub(super) const FIRST: usize = 8;

/// A table of a report.
pub(super) struct DataTable<'a> {
    /// Its place in the page.
    pub(super) id: String,
    /// `noise/summary`, as commands take it.
    pub(super) name: &'a str,
    /// The command that prints all of it.
    pub(super) command: &'a str,
    /// Bytes that its data may take.
    pub(super) room: usize,
    /// Rows that are shown at first.
    pub(super) first: usize,
    pub(super) is_open: bool,
}

impl DataTable<'_> {
    /// The table as an HTML element with its data.
    pub(super) fn html(&self, table: &Table) -> String {
        let height = table.height();
        let (data, rows) = data(table, self.room);
        let mut note = String::new();
        if rows < height {
            note = left_out(&format!(
                "{} of {} rows are in this file. All of them: {}",
                count(rows as u64),
                count(height as u64),
                self.command
            ));
        }
        format!(
            "<details{open} class=\"table\" data-first=\"{first}\" id=\"table-{id}\" data-name=\"{name}\"><summary>{name} \
             <span class=\"size\">{size}</span> <span class=\"what\">{what}</span></summary>\n{note}\
             <div class=\"controls\"><label>Filter <input type=\"search\" placeholder=\"words, level&gt;0.5, \
             network=CNN-R2\"></label><span class=\"count\" role=\"status\"></span>\
             <button type=\"button\" class=\"csv\">CSV</button></div>\n\
             <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{name}\">{grid}</div>\
             <button type=\"button\" class=\"more\"{hidden}>more rows</button></details>\n{data}",
            hidden = if rows <= self.first { " hidden" } else { "" },
            open = if self.is_open { " open" } else { "" },
            first = self.first,
            id = self.id,
            name = escape(self.name),
            size = if height == 1 {
                "1 row".to_owned()
            } else {
                format!("{} rows", count(height as u64))
            },
            what = escape(&table.schema().description),
            grid = grid(table, rows.min(self.first)),
            data = json_block(&format!("data-{}", self.id), &data),
        )
    }
}

/// The first rows.
fn grid(table: &Table, rows: usize) -> String {
    let mut out = "<table><thead><tr>".to_owned();
    for column in &table.schema().columns {
        let class = if column.dtype.is_number() {
            " class=\"number\""
        } else {
            ""
        };
        out += &format!(
            "<th scope=\"col\"{class}><button type=\"button\">{}</button></th>",
            escape(&column.heading())
        );
    }
    out += "</tr></thead><tbody>";
    let columns: Vec<&[Value]> = table
        .schema()
        .columns
        .iter()
        .map(|column| table.column(&column.name).unwrap_or_default())
        .collect();
    for row in 0..rows {
        out += "<tr>";
        for (values, column) in columns.iter().zip(&table.schema().columns) {
            let class = if column.dtype.is_number() {
                " class=\"number\""
            } else {
                ""
            };
            out += &format!("<td{class}>{}</td>", escape(&shown(&values[row])));
        }
        out += "</tr>";
    }
    out + "</tbody></table>"
}

/// A cell as people read it.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "\u{2013}".to_owned(),
        Value::Float(value) => significant(*value, 6),
        value => value.to_string(),
    }
}

/// Columns as JSON, and how many rows they have: all, or as many as there is room for. Text is kept once a value.
fn data(table: &Table, room: usize) -> (String, usize) {
    let columns = &table.schema().columns;
    let values: Vec<&[Value]> = columns
        .iter()
        .map(|column| table.column(&column.name).unwrap_or_default())
        .collect();
    // Names and descriptions are needed however few rows there are.
    let heads = columns.iter().map(|column| {
        let head = serde_json::json!({
            "name": column.name, "unit": column.unit, "about": column.description,
            "number": column.dtype.is_number(), "key": column.role == Role::Key,
        });
        head.to_string()
    });
    let heads: Vec<String> = heads.collect();
    let mut encoders: Vec<Encoder<'_>> = columns.iter().map(|column| Encoder::of(column.dtype)).collect();
    let mut used = 0;
    let mut rows = 0;
    while rows < table.height() {
        for (encoder, values) in encoders.iter_mut().zip(&values) {
            used += encoder.push(&values[rows]);
        }
        rows += 1;
        if used > room {
            break;
        }
    }
    let bodies: Vec<String> = encoders.into_iter().map(Encoder::finish).collect();
    let json = format!(
        "{{\"height\":{},\"columns\":[{}],\"data\":[{}]}}",
        table.height(),
        heads.join(","),
        bodies.join(",")
    );
    (json, rows)
}

/// Bytes of a table's data.
pub(super) fn bytes(table: &Table) -> usize {
    let mut used = 0;
    for column in &table.schema().columns {
        let mut encoder = Encoder::of(column.dtype);
        for value in table.column(&column.name).unwrap_or_default() {
            used += encoder.push(value);
            encoder.text.clear();
        }
    }
    used
}

/// A column on its way to JSON: numbers and booleans as they are, text as a list of different texts and their numbers.
struct Encoder<'a> {
    text: String,
    is_text: bool,
    known: HashMap<&'a str, usize>,
    texts: Vec<&'a str>,
}

impl<'a> Encoder<'a> {
    fn of(dtype: DType) -> Self {
        Self {
            text: String::new(),
            is_text: dtype == DType::Text,
            known: HashMap::new(),
            texts: Vec::new(),
        }
    }

    /// Appends a value; gives the bytes that it takes.
    fn push(&mut self, value: &'a Value) -> usize {
        let before = self.text.len();
        let mut apart = 0;
        match value {
            Value::Null => self.text += "null",
            Value::Text(text) => {
                let next = self.texts.len();
                let place = *self.known.entry(text).or_insert(next);
                if place == next {
                    self.texts.push(text);
                    apart = text.len() + 3;
                }
                self.text += &place.to_string();
            }
            // Browsers read numbers as float64, which does not hold each of these.
            Value::Int(value) if value.unsigned_abs() > 1 << 53 => self.text += &format!("\"{value}\""),
            // An infinity is text in JSON.
            value => self.text += &serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned()),
        }
        self.text.push(',');
        self.text.len() - before + apart
    }

    fn finish(self) -> String {
        let places = format!("[{}]", self.text.trim_end_matches(','));
        match self.is_text {
            false => places,
            true => format!(
                "{{\"texts\":{},\"places\":{places}}}",
                serde_json::to_string(&self.texts).unwrap_or_else(|_| "[]".to_owned())
            ),
        }
    }
}

/// Shares of a room: those that ask for little get all of it, the others the same each.
pub(super) fn shares(asked: &[usize], room: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..asked.len()).collect();
    order.sort_by_key(|place| asked[*place]);
    let mut shares = vec![0; asked.len()];
    let mut left = room;
    for (done, place) in order.iter().enumerate() {
        let fair = left / (asked.len() - done);
        shares[*place] = asked[*place].min(fair);
        left -= shares[*place];
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use dynvis_runner::table::{TableSchema, TableWriter};

    #[test]
    fn little_ones_get_all_and_large_ones_the_same() {
        assert_eq!(shares(&[5, 100, 1, 200], 106), [5, 50, 1, 50]);
        assert_eq!(shares(&[5, 7], 100), [5, 7]);
        assert_eq!(shares(&[], 100), [0; 0]);
    }

    #[test]
    fn a_table_is_cut_to_its_room_and_says_so() {
        let schema = TableSchema::new("t", "a <table>")
            .key("name", DType::Text, "")
            .value("x", DType::Float, "");
        let mut writer = TableWriter::new(schema).expect("a schema");
        for row in 0..1000 {
            writer
                .push_row([Value::from(format!("<{row}>")), Value::Float(0.1 * f64::from(row))])
                .expect("a row");
        }
        let table = writer.finish().expect("a table");
        let of = |room| DataTable {
            id: "1".to_owned(),
            name: "s/t",
            command: "dynvis show @ s/t",
            room,
            first: FIRST,
            is_open: false,
        };
        let whole = of(usize::MAX).html(&table);
        assert!(
            !whole.contains("left-out") && whole.contains("1,000 rows"),
            "{whole:.300}"
        );
        assert!(!whole.contains("<0>") && whole.contains("\\u003c0>"), "{whole:.300}");
        assert!(bytes(&table) > 10_000);
        let cut = of(5_000).html(&table);
        assert!(cut.len() < 9_000, "{}", cut.len());
        assert!(
            cut.contains("of 1,000 rows are in this file. All of them: dynvis show @ s/t"),
            "{cut:.400}"
        );
    }
}
