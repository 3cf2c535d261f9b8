//! `dynvis data`: published data sets, what of them is there, and how they come here.

use std::path::Path;
use std::time::{Duration, Instant};

use clap_complete::engine::CompletionCandidate;
use cords::data::{ImageSource, Requirement, SourceName};
use dynvis_runner::pipeline::suggest;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::error::CommandError;
use super::harmless::harmless;
use super::progress::Style;
use super::tables::{fits, simple_table};
use super::ui::Ui;
use super::wording::size;
use super::{completions, exit, project_here};
use crate::data::catalogue::{SETS, Set, set};
use crate::data::fetch::{Client, Event, FetchError, Network};
use crate::data::get;
use crate::data::presence::{By, Presence, State, presence};

/// List published data sets, what of them is there, and their size and licence
///
/// `dynvis data get SET` fetches one to where pipelines look for it.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    command: Option<DataCommand>,
    /// Read all files that are there and compare their checksums with the published ones
    #[arg(long)]
    verify: bool,
    /// Print JSON instead of text, with files, addresses and checksums
    #[arg(long)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum DataCommand {
    Get(GetArgs),
}

/// Fetch data sets to where pipelines look for them
///
/// A transfer that breaks off goes on where it ended, in the same call or the next one. Files get their names when all
/// their bytes have the published checksums. Proxies are those of the environment (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY,
/// NO_PROXY) unless one is given; certificates are those that the system trusts.
#[derive(clap::Args)]
pub(crate) struct GetArgs {
    /// Sets to fetch; all sets are listed if left out
    #[arg(add = completions::data_sets())]
    sets: Vec<String>,
    /// Fetch every set that needs no account
    #[arg(long, conflicts_with = "sets")]
    all: bool,
    /// Say what would be fetched from where, and fetch nothing
    #[arg(long)]
    dry_run: bool,
    /// Fetch again what is there, and put it in the place of what is there
    #[arg(long)]
    replace: bool,
    /// Fetch from here instead of the published addresses; `{set}` and `{file}` stand for names, and without `{file}`
    /// the file's name is put behind it; repeatable, the first to try first
    #[arg(long, value_name = "URL", env = "DYNVIS_DATA_MIRROR")]
    mirror: Vec<String>,
    /// Proxy to use instead of the environment's: `http://HOST:PORT`, `https://HOST:PORT` or `socks5://HOST:PORT`;
    /// empty for none
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Certificates (PEM) to trust instead of those that the system trusts
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    ca_certificate: Option<std::path::PathBuf>,
    /// Seconds without an answer or without further bytes after which an address is tried again
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = seconds)]
    timeout: f64,
    /// How often an address that gave nothing is tried again
    #[arg(long, value_name = "N", default_value_t = 5)]
    retries: u32,
    #[arg(long, value_enum, default_value_t = Style::Auto)]
    progress: Style,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=86_400.0).contains(seconds));
    seconds.ok_or_else(|| "a number of seconds from 0.1 to 86400 is needed".to_owned())
}

/// What shells are offered.
pub(super) fn candidates() -> impl Iterator<Item = CompletionCandidate> {
    let candidate = |set: &Set| CompletionCandidate::new(set.name).help(Some(set.about.into()));
    SETS.iter().filter(|set| set.is_fetched()).map(candidate)
}

pub(crate) fn data(ui: &mut Ui, args: &DataArgs) -> Result<u8, CommandError> {
    match &args.command {
        None => list(ui, args.verify, args.json),
        Some(DataCommand::Get(args)) if args.sets.is_empty() && !args.all => list(ui, false, false),
        Some(DataCommand::Get(args)) => fetch(ui, args),
    }
}

/// What lies there of a set: its published files, or others that `dataset` reads as well.
fn look(set: &Set, root: &Path, by: By) -> Result<Presence, CommandError> {
    let mut found = presence(set, root, by).map_err(|source| CommandError::Io {
        action: format!("cannot read what is there of `{}`", set.name),
        source,
    })?;
    let sources = set
        .sources
        .iter()
        .filter_map(|name| serde_json::from_value::<SourceName>(json!(name)).ok());
    let mut required = sources.map(|source| ImageSource::new(source, root.join(set.folder)).required_files());
    let is_readable = |files: Vec<Requirement>| !files.is_empty() && files.iter().all(|file| file.found().is_some());
    if matches!(found.state, State::Other | State::Partial) && required.any(is_readable) {
        found.state = State::Complete;
        found.notes = vec!["other files than those that are fetched, which `dataset` reads as well".to_owned()];
    }
    Ok(found)
}

fn list(ui: &mut Ui, verify: bool, is_json: bool) -> Result<u8, CommandError> {
    let root = project_here();
    let bar = (verify && ui.interactive).then(|| {
        let style = ProgressStyle::with_template("{prefix}  {decimal_bytes} read  {decimal_bytes_per_sec}");
        ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    });
    let mut found = Vec::new();
    for set in SETS {
        let mut progress = |bytes| {
            if let Some(bar) = &bar {
                bar.set_prefix(set.name);
                bar.inc(bytes);
            }
            Ok(())
        };
        let by = if verify { By::Checksum(&mut progress) } else { By::Size };
        found.push((set, look(set, &root, by)?));
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let is_damaged = found.iter().any(|(_, presence)| presence.state == State::Damaged);
    let code = if verify && is_damaged { exit::DAMAGED } else { 0 };
    if is_json {
        let sets: Vec<_> = found
            .iter()
            .map(|(set, presence)| json!({ "set": set, "bytes": set.bytes(), "presence": presence }))
            .collect();
        let document = json!({ "version": 1, "project": root, "verified": verify, "sets": sets });
        ui.out(&format!("{document:#}\n"))?;
        return Ok(code);
    }
    let mut rows: Vec<Vec<String>> = found.iter().map(|(set, presence)| row(set, presence)).collect();
    let mut header = vec!["set", "state", "size", "licence", "place", "read by"];
    // What can be guessed from the name goes first.
    if ui.width().is_some_and(|width| !fits(&header, &rows, width)) {
        header.pop();
        rows.iter_mut().for_each(|row| row.truncate(header.len()));
    }
    ui.out(&simple_table(&header, rows, ui.width()))?;
    for (set, presence) in &found {
        for note in &presence.notes {
            ui.status(&format!("{}: {note}", set.name));
        }
    }
    ui.status("`dynvis data get SET` fetches one; with `--dry-run` it says from where, and whom to cite");
    Ok(code)
}

fn row(set: &Set, presence: &Presence) -> Vec<String> {
    let state = match presence.state {
        State::Complete => "complete".to_owned(),
        State::Partial => format!("partial, {}", size(presence.bytes)),
        State::Missing if set.is_fetched() => "missing".to_owned(),
        State::Missing => "missing, by hand".to_owned(),
        State::Damaged => "damaged".to_owned(),
        State::Other => "other files".to_owned(),
    };
    let bytes = match set.bytes() {
        0 => "-".to_owned(),
        bytes => size(bytes),
    };
    let read_by = match set.sources {
        [] => set.kind.to_owned(),
        [first, _, rest @ ..] => format!("{}: {first} and {} more", set.kind, rest.len() + 1),
        [one] => format!("{}: {one}", set.kind),
    };
    vec![
        set.name.to_owned(),
        state,
        bytes,
        set.licence.to_owned(),
        set.folder.to_owned(),
        read_by,
    ]
}

/// The sets that were asked for.
fn wanted(args: &GetArgs) -> Result<Vec<&'static Set>, CommandError> {
    if args.all {
        return Ok(SETS.iter().filter(|set| set.is_fetched()).collect());
    }
    let mut found: Vec<&'static Set> = Vec::new();
    for name in &args.sets {
        let Some(set) = set(name) else {
            return Err(CommandError::hinted(
                format!("no data set `{name}`"),
                match suggest(name, SETS.iter().map(|set| set.name)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "`dynvis data` lists them".into(),
                },
            ));
        };
        if let Some(steps) = set.by_hand {
            return Err(CommandError::hinted(
                format!("`{name}` has to be fetched by hand, to `{}`", set.folder),
                steps,
            ));
        }
        if found.iter().all(|other| other.name != set.name) {
            found.push(set);
        }
    }
    Ok(found)
}

fn fetch(ui: &mut Ui, args: &GetArgs) -> Result<u8, CommandError> {
    let sets = wanted(args)?;
    let root = project_here();
    if args.dry_run {
        return dry_run(ui, args, &sets, &root);
    }
    let client = Client::new(Network {
        proxy: args.proxy.clone(),
        certificates: args.ca_certificate.clone(),
        patience: Duration::from_secs_f64(args.timeout),
        retries: args.retries,
        ..Network::default()
    })?;
    heed_signals(&client).map_err(|source| CommandError::Io {
        action: "cannot listen for Ctrl-C".into(),
        source,
    })?;
    let mut failed = Vec::new();
    for set in &sets {
        let by_others = look(set, &root, By::Size)?.state == State::Complete;
        if by_others && !args.replace {
            ui.status(&format!("{}: complete", set.name));
            continue;
        }
        let mut reporter = Reporter::new(*ui, args.progress, set.name);
        let outcome = get::get(&client, set, &root, &args.mirror, args.replace, &mut |event| {
            reporter.event(event);
        });
        reporter.end();
        match outcome {
            Ok(_) => ui.status(&format!("{}: complete, in {} ({})", set.name, set.folder, set.licence)),
            // One set more or less; anything else would end the next one, too.
            Err(error @ (FetchError::Addresses { .. } | FetchError::Other { .. } | FetchError::Archive { .. }))
                if sets.len() > 1 =>
            {
                ui.error(&CommandError::from(error));
                failed.push(set.name);
            }
            Err(error) => return Err(error.into()),
        }
    }
    if failed.is_empty() {
        return Ok(0);
    }
    Err(CommandError::hinted(
        format!(
            "{} of {} sets are not complete: {}",
            failed.len(),
            sets.len(),
            failed.join(", ")
        ),
        "the same command goes on where it ended",
    ))
}

/// The first Ctrl-C ends transfers in order; the next one kills.
fn heed_signals(client: &Client) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let client = client.clone();
    std::thread::Builder::new().spawn(move || {
        for signal in signals.forever() {
            if client.is_interrupted() {
                // There is nobody to tell if even that fails.
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
            client.interrupt();
        }
    })?;
    Ok(())
}

fn dry_run(ui: &mut Ui, args: &GetArgs, sets: &[&Set], root: &Path) -> Result<u8, CommandError> {
    let mut lines = Vec::new();
    for set in sets {
        let found = look(set, root, By::Size)?;
        let what = match (found.state, args.replace) {
            (State::Complete, false) => "complete, nothing to fetch".to_owned(),
            _ => format!("{} to {}", size(set.bytes()), set.folder),
        };
        lines.push(format!("{}: {}; {what}", set.name, set.about));
        lines.push(format!("  licence: {}", set.licence));
        lines.push(format!("  cite: {}", set.citation));
        lines.push(format!("  page: {}", set.page));
        for file in set.files {
            lines.push(format!("  {}, {} bytes", file.name, file.bytes));
            for checksum in file.checksums {
                lines.push(format!("    {} {}", checksum.kind(), checksum.digits()));
            }
            let addresses = get::addresses(set, file, &args.mirror);
            lines.extend(addresses.into_iter().map(|address| format!("    {address}")));
        }
    }
    ui.out(&(lines.join("\n") + "\n"))?;
    Ok(0)
}

/// How a transfer looks.
struct Reporter {
    ui: Ui,
    set: &'static str,
    output: Output,
}

enum Output {
    Bar(ProgressBar),
    /// Percent that were told.
    Plain(u64),
    Json(Instant),
    None,
}

impl Reporter {
    fn new(ui: Ui, style: Style, set: &'static str) -> Self {
        let output = match style {
            Style::Bars => Output::Bar(bar(&ui)),
            Style::Auto if ui.interactive => Output::Bar(bar(&ui)),
            Style::Auto | Style::Plain => Output::Plain(0),
            Style::Json => Output::Json(Instant::now()),
            Style::None => Output::None,
        };
        Self { ui, set, output }
    }

    fn event(&mut self, event: &Event) {
        match &mut self.output {
            Output::None => return,
            Output::Json(last) => {
                // Programs want no more than people.
                if let Event::Progress { done, bytes, .. } | Event::Unpacking { done, bytes, .. } = event
                    && done < bytes
                    && last.elapsed() < Duration::from_secs(1)
                {
                    return;
                }
                *last = Instant::now();
                let mut line = serde_json::to_value(event).unwrap_or_default();
                line["set"] = self.set.into();
                return self.ui.status_as_it_is(&line.to_string());
            }
            Output::Bar(_) | Output::Plain(_) => {}
        }
        match event {
            Event::Waiting { file } => self.say(&format!("{file}: another process fetches it; waiting")),
            Event::Started {
                file,
                address,
                from,
                bytes,
            } => {
                let rest = match from {
                    0 => size(*bytes),
                    from => format!("the last {} of {}", size(bytes - from), size(*bytes)),
                };
                self.say(&format!("{file}: {rest} from {address}"));
                self.position(file, *from, *bytes, true);
            }
            Event::Progress { file, done, bytes } => self.position(file, *done, *bytes, false),
            Event::Trouble {
                file,
                address,
                reason,
                pause,
            } => {
                let then = match pause {
                    Some(seconds) => format!("; once more in {seconds:.0} s"),
                    None => String::new(),
                };
                self.say(&format!("{file}: {address} {reason}{then}"));
            }
            Event::Unpacking { file, done, bytes } => self.position(&format!("unpacking {file}"), *done, *bytes, false),
            Event::Done { file, .. } => self.say(&format!("{file}: complete, checksums as published")),
        }
    }

    fn say(&mut self, text: &str) {
        match &self.output {
            // What a bar stands on is its own.
            Output::Bar(bar) => {
                let mut ui = self.ui;
                bar.suspend(|| ui.status(&format!("{} {text}", self.set)));
            }
            _ => self.ui.status(&format!("{} {text}", self.set)),
        }
    }

    fn position(&mut self, what: &str, done: u64, bytes: u64, is_start: bool) {
        let percent = done.saturating_mul(100) / bytes.max(1);
        match &mut self.output {
            Output::Bar(bar) => {
                bar.set_length(bytes);
                bar.set_prefix(harmless(what));
                match is_start {
                    // The speed is that of this transfer.
                    true => bar.clone().with_position(done).reset_eta(),
                    false => bar.set_position(done),
                }
            }
            Output::Plain(told) if is_start => *told = percent / 10 * 10,
            Output::Plain(told) if percent >= *told + 10 => {
                *told = percent / 10 * 10;
                let told = *told;
                self.say(&format!("{what}: {told} %, {}", size(done)));
            }
            _ => {}
        }
    }

    fn end(self) {
        if let Output::Bar(bar) = self.output {
            bar.finish_and_clear();
        }
    }
}

fn bar(ui: &Ui) -> ProgressBar {
    let room = if ui.width_err().unwrap_or(80) < 100 {
        ""
    } else {
        "  {bar:24}"
    };
    let shown =
        format!("{{prefix}}{room}  {{decimal_bytes}}/{{decimal_total_bytes}}  {{decimal_bytes_per_sec}}  {{eta}} left");
    let style = ProgressStyle::with_template(&shown).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style)
}
