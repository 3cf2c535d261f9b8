//! The pages of the stage kinds in `docs/kinds`: parameters from the schemas that validate pipelines, columns from the
//! structs that rows of tables are.

use std::fmt::Write as _;

use super::registry;
use super::stages::parameter_rows;
use dynvis_runner::kind::{AnyKind, PossibleOutput};
use dynvis_runner::table::{Role, TableSchema};

/// The list of all kinds, each with its page.
pub(super) fn list() -> String {
    let mut text =
        "# Stage kinds\n\nWhat a stage can do. Each page has all parameters, outputs and columns of tables of \
                    a kind, as the program itself has them: `dynvis stages KIND` prints the same parameters and \
                    outputs, `dynvis show RUN STAGE/TABLE --describe` the columns of a stored table.\n\n| kind | does \
                    |\n|---|---|\n"
            .to_owned();
    for kind in registry().kinds() {
        let (name, summary) = (kind.name(), prose(kind.summary()));
        line(&mut text, &format!("| [`{name}`](kinds/{name}.md) | {summary} |"));
    }
    text
}

/// The page of a kind.
pub(super) fn page(kind: &'static dyn AnyKind) -> String {
    let mut text = format!("# {}\n\n", kind.name());
    line(&mut text, &format!("{}.", capitalised(&prose(kind.summary()))));
    line(
        &mut text,
        "\n## Parameters\n\n| parameter | type, unit | default | what it is |\n|---|---|---|---|",
    );
    for [name, of_type, unit, default, what] in parameter_rows(kind.schema()) {
        let [of_type, default, what] = [with_unit(&of_type, &unit), default, what].map(|cell| prose(&cell));
        line(&mut text, &format!("| `{name}` | {of_type} | {default} | {what} |"));
    }
    let outputs = kind.possible_outputs();
    text += "\n## Outputs\n\n";
    if outputs.is_empty() {
        text += "Those that the stage's parameter `outputs` names.\n";
        return text;
    }
    text += "| output | type | what it holds |\n|---|---|---|\n";
    for output in &outputs {
        let when = output.when.map(|when| format!(" ({when})")).unwrap_or_default();
        let holds = prose(&format!("{}{when}", output.holds));
        line(
            &mut text,
            &format!("| `{}` | {} | {holds} |", output.name, output.artifact.name()),
        );
    }
    let tables: Vec<_> = outputs.iter().filter_map(columns).collect();
    if !tables.is_empty() {
        text += "\n## Columns of the tables\n\nRows are told apart by the columns in bold. A column in which nothing \
                 could stand, by the stage's parameters, is left out of its table.\n";
        text += &tables.concat();
    }
    text
}

/// The columns of a table.
fn columns(output: &PossibleOutput) -> Option<String> {
    let TableSchema {
        description, columns, ..
    } = output.schema.as_ref()?;
    let mut text = format!(
        "\n### {}\n\n{}.\n\n| column | type, unit | what it means |\n|---|---|---|\n",
        output.name,
        prose(description)
    );
    for column in columns {
        let name = match column.role {
            Role::Key => format!("**`{}`**", column.name),
            Role::Value => format!("`{}`", column.name),
        };
        let missing = if column.allow_missing { ", may be missing" } else { "" };
        let of_type = with_unit(&column.dtype.to_string(), column.unit.as_deref().unwrap_or_default());
        let (of_type, meaning) = (prose(&of_type), prose(&column.description));
        line(&mut text, &format!("| {name} | {of_type}{missing} | {meaning} |"));
    }
    Some(text)
}

/// A type with its unit, of which a pure number has none.
fn with_unit(of_type: &str, unit: &str) -> String {
    match unit {
        "" | "1" => of_type.to_owned(),
        unit => format!("{of_type}, {unit}"),
    }
}

fn line(text: &mut String, line: &str) {
    // A text takes everything.
    let _ = writeln!(text, "{line}");
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

/// A text as a cell of a Markdown table, in which nothing but code between backticks has a meaning.
fn prose(text: &str) -> String {
    let mut cell = String::new();
    let mut is_code = false;
    for letter in text.replace('\n', " ").chars() {
        is_code ^= letter == '`';
        match letter {
            '|' => cell += "\\|",
            '<' if !is_code => cell += "&lt;",
            '*' | '_' | '[' | ']' if !is_code => {
                cell.push('\\');
                cell.push(letter);
            }
            _ => cell.push(letter),
        }
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_shows_what_a_text_says() {
        assert_eq!(prose("a|b < c * d, `x|y < *z*`"), "a\\|b &lt; c \\* d, `x\\|y < *z*`");
    }

    #[test]
    fn every_table_of_a_kind_has_its_columns_on_the_page() {
        for kind in registry().kinds().iter().copied() {
            // Tables of users' programs, and those that it joins.
            if ["command", "collect"].contains(&kind.name()) {
                continue;
            }
            for output in kind.possible_outputs() {
                let is_table = output.artifact == dynvis_runner::kind::Artifact::TABLE;
                assert_eq!(output.schema.is_some(), is_table, "{} {}", kind.name(), output.name);
                let headed = page(kind).contains(&format!("\n### {}\n", output.name));
                assert_eq!(headed, is_table, "{} {}", kind.name(), output.name);
            }
        }
    }
}
