//! `dynvis man`, and the reference of all commands that the repository holds.

use clap::CommandFactory as _;

use super::Arguments;
use super::error::CommandError;
use super::kinds;
use super::stages::kind_called;
use super::ui::Ui;
use dynvis_runner::pipeline::suggest;

/// Print the manual page of dynvis or of one of its commands
///
/// `dynvis man | man -l -` shows it; `dynvis man run > dynvis-run.1` makes a file of it.
#[derive(clap::Args)]
pub(crate) struct ManArgs {
    /// Command whose manual page is printed
    command: Option<String>,
}

/// Columns of the reference, the same on every terminal.
const WIDTH: usize = 100;

pub(crate) fn man(ui: &mut Ui, args: &ManArgs) -> Result<u8, CommandError> {
    let mut all = Arguments::command();
    // Fills in what the commands inherit.
    all.build();
    let page = match &args.command {
        None => all,
        Some(name) => {
            let found = visible(&all).find(|command| command.get_name() == name);
            found.cloned().ok_or_else(|| {
                let names: Vec<&str> = visible(&all).map(clap::Command::get_name).collect();
                CommandError::hinted(
                    format!("no command `{name}`"),
                    match suggest(name, names.iter().copied()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("commands: {}", names.join(", ")),
                    },
                )
            })?
        }
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page)
        .render(&mut text)
        .map_err(|source| CommandError::Io {
            action: "cannot write the manual page".into(),
            source,
        })?;
    ui.out_bytes(&text)?;
    Ok(0)
}

fn visible(all: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    all.get_subcommands().filter(|command| !command.is_hide_set())
}

/// Print the help of all commands as Markdown, for docs/cli.md; the list of stage kinds, for docs/kinds.md; or a kind's
/// parameters, outputs and columns, for docs/kinds/KIND.md
#[derive(clap::Args)]
pub(crate) struct ReferenceArgs {
    /// `commands`, `kinds` or a stage kind
    #[arg(default_value = "commands")]
    of: String,
}

pub(crate) fn reference(ui: &mut Ui, args: &ReferenceArgs) -> Result<u8, CommandError> {
    let text = match args.of.as_str() {
        "commands" => commands(),
        "kinds" => kinds::list(),
        kind => kinds::page(kind_called(kind)?),
    };
    ui.out(&text)?;
    Ok(0)
}

fn commands() -> String {
    let mut all = Arguments::command().term_width(WIDTH);
    all.build();
    let mut text = "# Commands\n\nAll commands with all options, as `--help` shows them.\n".to_owned();
    let names: Vec<String> = visible(&all).map(|command| command.get_name().to_owned()).collect();
    text += &section("dynvis", &mut all);
    for name in names {
        if let Some(command) = all.find_subcommand_mut(&name) {
            text += &section(&format!("dynvis {name}"), command);
            let below: Vec<String> = visible(command).map(|command| command.get_name().to_owned()).collect();
            for below in below {
                if let Some(command) = command.find_subcommand_mut(&below) {
                    text += &section(&format!("dynvis {name} {below}"), command);
                }
            }
        }
    }
    text
}

fn section(title: &str, command: &mut clap::Command) -> String {
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    format!("\n## {title}\n\n```text\n{}\n```\n", lines.join("\n").trim_end())
}
