//! `dynvis watch`: what runs now, on the terminal or as a page.
//!
//! `run` writes down how far it is ([`recorder`]), in a file of its folder that any process on any machine with that
//! folder can read ([`tail`]); [`view`] is what both pictures show. `docs/design/watch.md` says why it is so.

mod chart;
mod follow;
mod line;
mod live;
mod page;
mod recorder;
mod screen;
mod serve;
mod sheet;
mod tail;
mod terminal;
mod view;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

pub(super) use live::Mark;
pub(super) use recorder::Recorder;

use follow::{Follower, going_on};
use terminal::{Terminal, Wake};
use view::View;

use super::error::CommandError;
use super::ui::Ui;
use super::{completions, open_store, project_here};

/// When the workers of a run's stages were queued and started, as far as that is kept, and when the run said something
/// last; all in seconds after its start.
pub(super) fn marks(run_folder: &Path) -> (HashMap<String, Vec<(f64, Mark)>>, f64) {
    let mut tail = tail::Tail::of(run_folder);
    tail.refresh();
    let stages = tail.live.stages.into_iter();
    (
        stages.map(|(name, stage)| (name, stage.marks)).collect(),
        tail.live.last,
    )
}

/// Columns where nobody says how many.
const COLUMNS: usize = 80;

/// Watch a run: stages, progress, time left, curves of loss and accuracy
///
/// Shows what another terminal runs, and ends with the run; `q` leaves before. Reads what `run` writes and nothing
/// else, so that it never slows or stops a run. Where standard output is no terminal, one picture is printed.
#[derive(clap::Args)]
pub(crate) struct WatchArgs {
    /// `@` (last run), `@-1`, a run's id or its first letters [default: the one that goes on now, else the last]
    #[arg(add = completions::runs())]
    run: Option<String>,
    /// Print one picture and end
    #[arg(long)]
    once: bool,
    /// Seconds from one picture to the next
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = interval)]
    interval: f64,
    /// Columns of a printed picture [default: those of the terminal, 80 elsewhere]
    #[arg(long, value_name = "COLUMNS", value_parser = clap::value_parser!(u16).range(1..=1000))]
    width: Option<u16>,
    /// Serve a page that shows the same, to this machine alone unless another address is given
    ///
    /// The address has a token that nobody else knows; whoever has the address can read what the page shows, and
    /// nothing else. Stays until Ctrl-C.
    #[arg(long, value_name = "ADDRESS:PORT", num_args = 0..=1, default_missing_value = "127.0.0.1:0",
        value_parser = address, conflicts_with_all = ["once", "width"])]
    serve: Option<SocketAddr>,
}

fn interval(text: &str) -> Result<f64, String> {
    let seconds = text
        .parse::<f64>()
        .ok()
        .filter(|seconds| (0.2..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "0.2 to 3600 seconds are possible".into())
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let expected = "an address and a port are expected, `127.0.0.1:8000` or `[::1]:0`; a run stands before `--serve`";
    text.parse().map_err(|_| expected.into())
}

pub(crate) fn watch(ui: &mut Ui, cache: Option<&Path>, args: &WatchArgs) -> Result<u8, CommandError> {
    let store = open_store(cache, &project_here())?;
    let found = match &args.run {
        Some(run) => super::find_run(ui, &store, run)?,
        None => match going_on(&store)? {
            Some(found) => found,
            None if store.run_folders()?.is_empty() => {
                return Err(CommandError::hinted("no runs yet", "`dynvis run PIPELINE` makes one"));
            }
            None => super::find_run(ui, &store, "@")?,
        },
    };
    let mut follower = Follower::new(store, found.0, found.1);
    if let Some(address) = args.serve {
        return serve::serve(ui, follower, address);
    }
    let mut view = follower.view();
    if ui.has_screen() && !args.once && view.goes_on {
        match on_terminal(ui, &mut follower, Duration::from_secs_f64(args.interval))? {
            Some(last) => view = last,
            None => return Ok(0),
        }
    }
    let width = args.width.map(usize::from).or(ui.width()).unwrap_or(COLUMNS);
    print(ui, &view, width)?;
    Ok(0)
}

/// Until the run ends, and how; none where the user leaves before.
fn on_terminal(ui: &Ui, follower: &mut Follower, interval: Duration) -> Result<Option<View>, CommandError> {
    let mut terminal = Terminal::open(ui)?;
    loop {
        let view = follower.view();
        if !view.goes_on {
            return Ok(Some(view));
        }
        // A terminal that is resized is drawn anew at once, from the same view.
        loop {
            let (columns, rows) = Terminal::size();
            terminal.draw(&screen::sheet(&view, columns, Some(rows)).lines(rows, ui.colour_out()))?;
            match terminal.wait(interval) {
                Wake::Resized => {}
                Wake::Time => break,
                Wake::Leave => return Ok(None),
            }
        }
    }
}

fn print(ui: &mut Ui, view: &View, width: usize) -> Result<(), CommandError> {
    let lines = screen::sheet(view, width, None).lines(usize::MAX, ui.colour_out());
    ui.out(&(lines.join("\n") + "\n"))
}
